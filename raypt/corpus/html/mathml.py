"""Presentation MathML to LaTeX, for formulas that come without their source."""

from raypt.corpus.html.names import TEXT
from raypt.corpus.html.scan import Nodes

MAX_NODES = 2_000
MAX_DEPTH = 60
"""Larger formulas stay as their text."""

_OPERATORS = {
    "×": r"\times", "·": r"\cdot", "÷": r"\div", "±": r"\pm", "∓": r"\mp", "≤": r"\leq", "≥": r"\geq", "≠": r"\neq",
    "≈": r"\approx", "≡": r"\equiv", "∼": r"\sim", "∝": r"\propto", "∞": r"\infty", "∑": r"\sum", "∏": r"\prod",
    "∫": r"\int", "∮": r"\oint", "∂": r"\partial", "∇": r"\nabla", "√": r"\surd", "∈": r"\in", "∉": r"\notin",
    "⊂": r"\subset", "⊆": r"\subseteq", "⊃": r"\supset", "∪": r"\cup", "∩": r"\cap", "∅": r"\emptyset",
    "∀": r"\forall", "∃": r"\exists", "¬": r"\neg", "∧": r"\land", "∨": r"\lor", "→": r"\to", "←": r"\leftarrow",
    "↔": r"\leftrightarrow", "⇒": r"\Rightarrow", "⇐": r"\Leftarrow", "⇔": r"\Leftrightarrow", "↦": r"\mapsto",
    "⋅": r"\cdot", "∘": r"\circ", "⊕": r"\oplus", "⊗": r"\otimes", "…": r"\dots", "⋯": r"\cdots", "⟨": r"\langle",
    "⟩": r"\rangle", "−": "-", "′": "'", "″": "''", "∣": r"\mid", "∥": r"\parallel", "∗": "*", "{": r"\{", "}": r"\}",
    "%": r"\%", "&": r"\&", "#": r"\#", "_": r"\_", "$": r"\$",
    "\u2061": "", "\u2062": "", "\u2063": "", "\u2064": "",
}  # fmt: skip
_LETTERS = {
    "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "ε": r"\varepsilon", "ζ": r"\zeta", "η": r"\eta",
    "θ": r"\theta", "ι": r"\iota", "κ": r"\kappa", "λ": r"\lambda", "μ": r"\mu", "ν": r"\nu", "ξ": r"\xi",
    "π": r"\pi", "ρ": r"\rho", "σ": r"\sigma", "τ": r"\tau", "υ": r"\upsilon", "φ": r"\varphi", "χ": r"\chi",
    "ψ": r"\psi", "ω": r"\omega", "Γ": r"\Gamma", "Δ": r"\Delta", "Θ": r"\Theta", "Λ": r"\Lambda", "Ξ": r"\Xi",
    "Π": r"\Pi", "Σ": r"\Sigma", "Φ": r"\Phi", "Ψ": r"\Psi", "Ω": r"\Omega", "ϵ": r"\epsilon", "ϑ": r"\vartheta",
    "ϕ": r"\phi",
}  # fmt: skip
_FUNCTIONS = {
    "arccos", "arcsin", "arctan", "cos", "cosh", "cot", "csc", "det", "dim", "exp", "inf", "lim", "ln", "log", "max",
    "min", "sec", "sin", "sinh", "sup", "tan", "tanh",
}  # fmt: skip
_ACCENTS = {
    "^": r"\hat", "ˆ": r"\hat", "~": r"\tilde", "˜": r"\tilde", "¯": r"\bar", "‾": r"\overline", "→": r"\vec",
    "˙": r"\dot", "¨": r"\ddot", "⏞": r"\overbrace",
}  # fmt: skip
_UNDER = {"_": r"\underline", "⏟": r"\underbrace"}


def latex(nodes: Nodes, node: int) -> str:
    """LaTeX of the MathML at and below a node."""
    if int(nodes.stop[node]) - node > MAX_NODES:
        return " ".join(nodes.text(node).split())
    return " ".join(_convert(nodes, node, MAX_DEPTH).split())


def _group(text: str) -> str:
    return text if len(text) == 1 else "{" + text + "}"


def _symbols(text: str, table: dict[str, str]) -> str:
    out = ""
    for c in text:
        value = table.get(c, c)
        out += value + (" " if value.startswith("\\") and value[-1].isalpha() else "")
    return out


def _convert(nodes: Nodes, node: int, depth: int) -> str:
    if nodes.kind[node] == TEXT:
        return ""
    if depth == 0:
        return nodes.text(node)
    name = nodes.name(node).lower()
    if name == "mi":
        text = nodes.text(node).strip()
        if text in _FUNCTIONS:
            return f"\\{text} "
        return _symbols(text, _LETTERS | _OPERATORS) if len(text) == 1 else rf"\mathrm{{{text}}}"
    if name == "mn":
        return nodes.text(node).strip()
    if name == "mo":
        return _symbols(nodes.text(node).strip(), _OPERATORS)
    if name in ("mtext", "ms"):
        text = " ".join(nodes.text(node).split())
        return rf"\text{{{text}}}" if text else " "
    if name == "mspace":
        return " "
    if name in ("mphantom", "annotation", "annotation-xml"):
        return ""
    parts = [_convert(nodes, c, depth - 1) for c in nodes.children(node) if nodes.kind[c] != TEXT]
    match name, [p.strip() for p in parts]:
        case "mfrac", [top, bottom]:
            return rf"\frac{{{top}}}{{{bottom}}}"
        case "msup", [base, above]:
            return f"{_group(base)}^{_group(above)}"
        case "msub", [base, below]:
            return f"{_group(base)}_{_group(below)}"
        case "msubsup", [base, below, above]:
            return f"{_group(base)}_{_group(below)}^{_group(above)}"
        case "munderover", [base, below, above]:
            return f"{base}_{_group(below)}^{_group(above)} "
        case "mover", [base, above]:
            return f"{_ACCENTS[above]}{{{base}}}" if above in _ACCENTS else f"{base}^{_group(above)} "
        case "munder", [base, below]:
            return f"{_UNDER[below]}{{{base}}}" if below in _UNDER else f"{base}_{_group(below)} "
        case "mroot", [base, degree]:
            return rf"\sqrt[{degree}]{{{base}}}"
        case "msqrt", inner:
            return rf"\sqrt{{{' '.join(inner)}}}"
        case "mtable", rows:
            return r"\begin{matrix}" + r" \\ ".join(rows) + r"\end{matrix}"
        case "mtr" | "mlabeledtr", cells:
            return " & ".join(cells)
        case "mfenced", inner:
            return f"({', '.join(inner)})"
        case "semantics", [first, *_]:
            return first
    return "".join(parts)
