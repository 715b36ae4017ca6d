from pydantic import BaseModel

from skyloom_gateway import Agent, App, request


class Hello(BaseModel):
    name: str


class Greeting(BaseModel):
    text: str


class HelloAgent(Agent):
    @request("hello.greet")
    async def greet(self, body: Hello) -> Greeting:
        return Greeting(text=f"Hello {body.name}, says {self.user}'s agent.")


app = App("hello", agent=HelloAgent)
