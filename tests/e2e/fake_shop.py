"""The shop, as the browser sees it, without a server: for what a real one cannot be made to do at the right moment."""

from typing import Any

from tests.e2e.fake_gateway import FakeGateway, Session

OPENING_BALANCE = 10_000


class FakeShop(FakeGateway):
    """Goods, balances and orders in memory. An order is answered from its record when it is asked for again."""

    path = "/shop/"

    def __init__(self) -> None:
        super().__init__()
        self.goods: dict[str, dict[str, Any]] = {}
        self.balances: dict[str, int] = {}
        self.orders: dict[str, list[dict[str, Any]]] = {}
        self.answers: dict[str, dict[str, Any] | str] = {}
        self.placed: list[str] = []  # the ids that came in, as often as they came
        self.stopping_at: str | None = None  # a status in which orders stay
        self.refusing: dict[str, Any] | None = None  # the error to every order
        self.overtaking: dict[str, int] = {}  # stock pushed between the catalogue and its answer

    def add(self, sku: str, name: str, price: int, available: int) -> None:
        self.goods[sku] = {"sku": sku, "name": name, "price": price, "available": available}

    def stock(self, **available: int) -> None:
        """Somebody else bought, or there is more again."""
        for sku, number in available.items():
            self.goods[sku]["available"] = number
        items = [{"sku": sku, "available": number} for sku, number in available.items()]
        for session in self.sessions:
            session.push("shop.stock_changed", {"items": items})

    def move(self, user: str, order_id: str, status: str) -> None:
        """An order takes a step."""
        next(order for order in self.orders[user] if order["order_id"] == order_id)["status"] = status
        for session in self.sessions:
            if session.user == user:
                session.push("shop.order_updated", {"order_id": order_id, "status": status})

    def requested(self, session: Session, frame: dict[str, Any]) -> None:
        route, body = frame["route"], frame["body"]
        if route == "shop.place_order":
            self.placed.append(body["order_id"])
            if self.refusing is not None:
                session.send({"type": "error", "id": frame["id"], "error": self.refusing})
                return
            answer = self.answer(session, route, body)
            if route not in self.unanswered:
                session.respond(frame["id"], answer)
            return
        super().requested(session, frame)

    def answer(self, session: Session, route: str, body: dict[str, Any]) -> dict[str, Any] | str:
        user = session.user
        orders = self.orders.setdefault(user, [])
        if route == "shop.catalog":
            goods = [dict(item) for item in self.goods.values()]
            if self.overtaking:
                self.stock(**self.overtaking)
            return {"items": goods}
        if route == "shop.balance":
            return {"balance": self.balances.setdefault(user, OPENING_BALANCE)}
        if route == "shop.orders":
            return {"orders": orders[::-1][: body.get("limit", 20)]}
        if route == "shop.order":
            found = [order for order in orders if order["order_id"] == body["order_id"]]
            return found[0] if found else "shop.order_not_found"
        assert route == "shop.place_order", route
        order_id, items = body["order_id"], body["items"]
        for order in orders:
            if order["order_id"] == order_id and order["items"] != items:
                return "shop.order_mismatch"
        if order_id not in self.answers:
            self.answers[order_id] = self._order(user, order_id, items)
        return self.answers[order_id]

    def _order(self, user: str, order_id: str, items: list[dict[str, Any]]) -> dict[str, Any] | str:
        if any(item["sku"] not in self.goods for item in items):
            return "shop.unknown_sku"
        total = sum(self.goods[item["sku"]]["price"] * item["qty"] for item in items)
        order = {"order_id": order_id, "status": "new", "total": total, "items": items}
        self.orders[user].append(order)
        short = any(self.goods[item["sku"]]["available"] < item["qty"] for item in items)
        balance = self.balances.setdefault(user, OPENING_BALANCE)
        if short or balance < total:
            self.move(user, order_id, "failed")
            return "shop.out_of_stock" if short else "shop.insufficient_funds"
        self.stock(**{item["sku"]: self.goods[item["sku"]]["available"] - item["qty"] for item in items})
        for status in ("reserved", "charging", "paid", "confirmed", "done"):
            self.move(user, order_id, status)
            if status == "paid":
                self.balances[user] = balance - total
                order["transaction_id"] = f"tx-{order_id}"
            if status == self.stopping_at:
                break
        return {"order_id": order_id, "status": "confirmed", "transaction_id": f"tx-{order_id}", "total": total}
