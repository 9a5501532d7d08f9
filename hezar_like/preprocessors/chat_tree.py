"""The tree of a chat template with the prices put in: what each loop, sum and comparison costs is paid as it runs."""

from __future__ import annotations

from typing import Any

from ..errors import PreprocessorError
from .chat_budget import MADE

__all__ = ["ADD", "CONCAT", "CUT", "SCAN", "STEP", "WEIGH", "tree_changer"]

BAD_NODES = ("Block", "Extends", "FromImport", "Import", "Include", "ScopedEvalContextModifier")
# Filters of the changed tree. No template can write these names, and what `map` reaches of them does no harm.
ADD, CONCAT, CUT, SCAN, STEP, WEIGH = "add values", "join texts", "cut out", "scan value", "count step", "weigh value"


def tree_changer(visitor: Any, nodes: Any) -> Any:
    """What puts the prices into a template's tree."""
    plain = (nodes.Const, nodes.TemplateData, nodes.Compare, nodes.Not, nodes.Test)

    def filtered(name: str, first: Any, *others: Any) -> Any:
        return nodes.Filter(first, name, list(others), [], None, None).set_lineno(first.lineno)

    def step(body: list[Any], line: int) -> Any:
        """The price of running a body once: its nodes, and the text that it writes."""
        parts = [part for statement in body for part in (statement, *statement.find_all(nodes.Node))]
        texts = sum(len(part.data) // MADE for part in parts if isinstance(part, nodes.TemplateData))
        return filtered(STEP, nodes.Const(1 + len(parts) + texts, lineno=line))

    def is_literal(node: Any) -> bool:
        return isinstance(node, nodes.List | nodes.Tuple) and all(isinstance(item, nodes.Const) for item in node.items)

    class TreeChanger(visitor.NodeTransformer):  # type: ignore[misc]
        def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
            if type(node).__name__ in BAD_NODES:
                raise PreprocessorError(
                    f"the chat template has a {type(node).__name__} in line {node.lineno}; it must be one piece "
                    "without blocks. Give another one."
                )
            return super().visit(node, *args, **kwargs)

        def visit_For(self, node: Any) -> Any:
            price = step(node.body, node.lineno)
            if node.test is not None:
                node.test = nodes.And(step([node.test], node.lineno), node.test, lineno=node.lineno)
            self.generic_visit(node)
            node.body.insert(0, nodes.ExprStmt(price, lineno=node.lineno))
            return node

        def visit_body(self, node: Any) -> Any:
            price = step(node.body, node.lineno)
            self.generic_visit(node)
            node.body.insert(0, nodes.ExprStmt(price, lineno=node.lineno))
            return node

        visit_Macro = visit_CallBlock = visit_body

        def visit_Add(self, node: Any) -> Any:
            parts: list[Any] = []
            while isinstance(node, nodes.Add):
                parts.append(self.visit(node.right))
                node = node.left
            return filtered(ADD, self.visit(node), *reversed(parts))

        def visit_Concat(self, node: Any) -> Any:
            return filtered(CONCAT, *[self.visit(part) for part in node.nodes])

        def visit_Compare(self, node: Any) -> Any:
            self.generic_visit(node)
            first, operand = node.expr, node.ops[0]
            if len(node.ops) == 1 and operand.op in ("in", "notin") and isinstance(first, nodes.Const):
                operand.expr = filtered(SCAN, operand.expr)
            elif len(node.ops) > 1 or not (
                isinstance(first, plain) or isinstance(operand.expr, plain) or is_literal(operand.expr)
            ):
                node.expr = filtered(WEIGH, first)
                for operand in node.ops:
                    operand.expr = filtered(WEIGH, operand.expr)
            return node

        def visit_Getitem(self, node: Any) -> Any:
            self.generic_visit(node)
            if isinstance(node.arg, nodes.Slice):
                ends = (node.arg.start, node.arg.stop, node.arg.step)
                none = nodes.Const(None, lineno=node.lineno)
                return filtered(CUT, node.node, *[none if end is None else end for end in ends])
            if not isinstance(node.arg, nodes.Const):
                node.arg = filtered(WEIGH, node.arg)
            return node

        def visit_Pair(self, node: Any) -> Any:
            self.generic_visit(node)
            if not isinstance(node.key, nodes.Const):
                node.key = filtered(WEIGH, node.key)
            return node

    return TreeChanger()
