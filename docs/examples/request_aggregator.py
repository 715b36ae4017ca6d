"""The exercise: a service that collects similar requests of many clients and answers each of them for itself."""

import asyncio
from dataclasses import dataclass

from skyloom import Address, Failed, Node, Service, rpc
from skyloom.patterns.batcher import BatchExpired, batched


@dataclass(frozen=True)
class Query:
    """One request: requests of the same kind are similar."""

    kind: str
    number: int


class Aggregator(Service):
    """Runs a batch when 10 requests of a kind are in, or 100 ms after the last batch of that kind."""

    name = "AGGREGATOR"

    @rpc
    @batched(max_size=10, max_wait=0.1, key=lambda query: query.kind, timeout=0.15)
    async def ask(self, queries: list[Query]) -> list[int | Failed]:
        kind = queries[0].kind
        print(f"  a batch of {len(queries)} {kind}")
        await self.sleep({"square": 0.05, "cube": 0.01, "hang": 60.0}[kind])
        power = 2 if kind == "square" else 3
        return [query.number**power if query.number >= 0 else Failed("negative") for query in queries]


class Client(Service):
    """Asks all its questions at once, and notes the order in which the answers come."""

    @rpc
    async def run(self, aggregator: Address, queries: list[Query]) -> list[str]:
        answers: list[str] = []

        async def one(query: Query) -> None:
            try:
                answer = str(await Aggregator.at(self, aggregator).ask(query))
            except BatchExpired:
                answer = "timeout"
            except Failed as error:
                answer = error.message
            answers.append(f"{query.kind} {query.number}: {answer}")

        await asyncio.gather(*(one(query) for query in queries))
        return answers


async def main() -> None:
    async with Node("example") as node:
        aggregator = await node.spawn(Aggregator)
        ada, bob = [Client.at(node.root, await node.spawn(Client)) for _ in range(2)]
        mixed = [Query("square", 3), Query("cube", 3), Query("square", -1), Query("hang", 0), Query("cube", 2)]
        many = [Query("cube", number) for number in range(9)]
        for answers in await asyncio.gather(ada.run(aggregator, mixed), bob.run(aggregator, many)):
            print(answers)


if __name__ == "__main__":
    asyncio.run(main())
