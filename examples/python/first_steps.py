"""First steps: documents, an index, the change feed and a histogram, in one process."""

import json
import sys

import kappa_core


def text(document: kappa_core.Document) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def main() -> None:
    directory = sys.argv[1] if len(sys.argv) > 1 else "first-steps-data"
    with kappa_core.open(directory) as db:
        mate = db.products.create({"title": "Mate", "price": 12.5})
        before = db.products.entry(mate["id"])
        print("created", text(mate))
        dearer = db.products.update(mate["id"], {"price": 13})
        after = db.products.entry(mate["id"])
        assert before is not None and after is not None
        print(f"now {text(dearer)}, version {after['version']} after {before['version']}")
        print(db.products.count(), "product(s)")

        orders = db.collection("orders", indexes=["user"])
        changes = db.changes()
        for user, total in [("ana", 30), ("luis", 20), ("ana", 10)]:
            orders.create({"user": user, "total": total})
        for order in orders.list("user", equal="ana"):
            print("order of ana:", text(order))
        for _ in range(3):
            change = next(changes)
            print(change["kind"], change["id"], "in", change["collection"])

    throws = kappa_core.histogram(20_000, range=(1, 6), seed=42)
    print("a die thrown 20 000 times:", throws.counts)


if __name__ == "__main__":
    main()
