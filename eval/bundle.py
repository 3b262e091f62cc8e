"""One self-contained program: a module of the package with all modules that it needs.

The program holds the sources, and writes them into a temporary folder to import them
(numba and torch.compile want files).  It runs in an empty folder, where pgolf-codec is not
installed, with Python, torch, numpy and sentencepiece; packages of :data:`STAND_INS` are
used if they are there.  What it needs is found by following
the imports of the sources, within functions too.
"""

from __future__ import annotations

import ast
import base64
import json
import lzma
from importlib import resources
from pathlib import Path

import pgolf_codec
from pgolf_codec.errors import ConfigError

PACKAGE = "pgolf_codec"
ENTRY = "pgolf_codec.lm.golf"
FOLDERS = ("codec", "eval", "lm", "quant")

REPLACED = {
    "pgolf_codec.codec.compiled": "pgolf_codec.eval.stand_in_compiled",
    "pgolf_codec.codec.machine": "pgolf_codec.eval.stand_in_machine",
    "pgolf_codec.lm.integers.engine": "pgolf_codec.eval.stand_in_engine",
    "pgolf_codec.quant.ans_words": "pgolf_codec.eval.stand_in_ans_words",
}
"""Modules that a bundle has in another form."""

STAND_INS = {
    "constriction": "pgolf_codec.eval.stand_in_constriction",
    "numba": "pgolf_codec.eval.stand_in_numba",
    "zstandard": "pgolf_codec.eval.stand_in_zstandard",
}
"""Packages that need not be installed, and what then takes their place."""

_LINE = 100


def make_bundle(recipe: str, *, name: str = "pgolf-codec", plain: bool = False) -> bytes:
    """The program that runs :data:`ENTRY` on the TOML text ``recipe``.

    Its sources are compressed, without comments and docstrings, unless ``plain``.  The
    same arguments give the same bytes.  Raises :class:`ConfigError` for a recipe that is
    not TOML in UTF-8.
    """
    sources = needed_sources()
    if not plain:
        sources = {module: without_docstrings(source) for module, source in sources.items()}
    head = _HEAD.format(
        name=" ".join(name.split()).replace("\\", "").replace('"', "'"),
        version=pgolf_codec.__version__,
        n_modules=len(sources),
    )
    body = _plain(recipe, sources) if plain else _packed(recipe, sources)
    program = head + body + _TAIL.format(entry=ENTRY)
    try:
        compile(program, "train_gpt.py", "exec")
        return program.encode()
    except (SyntaxError, UnicodeEncodeError) as error:
        raise ConfigError(f"no program can be made of this recipe: {error}") from None


def needed_sources() -> dict[str, str]:
    """Name -> source of :data:`ENTRY` and of every module that it can come to import."""
    sources: dict[str, str] = {}
    waiting = [ENTRY, *STAND_INS]
    while waiting:
        module = waiting.pop()
        if module in sources:
            continue
        sources[module] = _source(module)
        waiting += imports(sources[module])
        if module.startswith(f"{PACKAGE}."):
            waiting.append(module.rpartition(".")[0])
    return dict(sorted(sources.items()))


def imports(source: str) -> set[str]:
    """Modules of this package that a source imports, wherever; not for type checkers only."""
    tree = ast.parse(source)
    found: set[str] = set()
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):  # from the outside in
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            skipped.update(inner for statement in node.body for inner in ast.walk(statement))
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in found if name.startswith(f"{PACKAGE}.") and _is_module(name)}


def without_docstrings(source: str) -> str:
    """The same program without comments, docstrings and other strings that do nothing."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [statement for statement in body if not _is_text(statement)]
            node.body = kept or ([ast.Pass()] if body else [])  # type: ignore[attr-defined]
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _source(module: str) -> str:
    if module == PACKAGE:  # its functions lead to everything
        return f'__version__ = "{pgolf_codec.__version__}"\n'
    name = STAND_INS.get(module) or REPLACED.get(module) or module
    return _path(name).read_text(encoding="utf-8")


def _is_module(name: str) -> bool:
    return _path(name).is_file()


def _path(module: str) -> Path:
    """The file of a module of this package; one that is not there if it is none."""
    folder = Path(str(resources.files(PACKAGE)))
    parts = module.split(".")[1:]
    if parts and parts[0] in FOLDERS:
        package = resources.files(f"{PACKAGE}.{parts.pop(0)}")
        folder = Path(str(package))
    if (path := folder.joinpath(*parts, "__init__.py")).is_file():
        return path
    return folder.joinpath(*parts).with_suffix(".py") if parts else folder / "__init__.py"


def _plain(recipe: str, sources: dict[str, str]) -> str:
    parts = [f"PAYLOAD = {{'sources': {{}}, 'recipe': {_literal(recipe)}}}\n"]
    parts += [f"\nPAYLOAD['sources']['{m}'] = {_literal(text)}\n" for m, text in sources.items()]
    return "".join(parts)


def _literal(text: str) -> str:
    """A string literal that reads like the text."""
    escaped = text.replace("\\", "\\\\").replace("'''", "\\'\\'\\'")
    return f"'''\\\n{escaped}'''"


def _packed(recipe: str, sources: dict[str, str]) -> str:
    payload = json.dumps({"recipe": recipe, "sources": sources}, ensure_ascii=False)
    packed = lzma.compress(payload.encode(), preset=9 | lzma.PRESET_EXTREME)
    text = base64.b85encode(packed).decode()
    lines = [text[i : i + _LINE] for i in range(0, len(text), _LINE)]
    return (
        'PACKED = """\n' + "\n".join(lines) + '\n"""\n'
        "PAYLOAD = json.loads(lzma.decompress(base64.b85decode(PACKED.replace('\\n', ''))))\n"
    )


_HEAD = '''\
"""{name}: one run of the challenge, in one file.

Made by pgolf-codec {version} (`pgolf-codec submit --recipe`) of {n_modules} of its modules, which
are below; `python train_gpt.py --unpack DIR` writes them as files, `--help` tells the options.
Needs Python 3.11, torch, numpy and sentencepiece.
"""

import atexit
import base64
import json
import lzma
import shutil
import sys
import tempfile
from pathlib import Path

'''

_TAIL = '''

def install():
    """Write the sources as files and import from there; stand-ins come behind what is installed."""
    folder = tempfile.mkdtemp(prefix="train_gpt-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    unpack(folder)
    sys.path.insert(0, folder)
    sys.path.append(str(Path(folder, "stand_ins")))


def unpack(folder):
    for name, text in PAYLOAD["sources"].items():
        path = Path(folder, *name.split("."))
        if not name.startswith("pgolf_codec"):
            path = Path(folder, "stand_ins", name)
        is_package = any(other.startswith(name + ".") for other in PAYLOAD["sources"])
        path = path / "__init__.py" if is_package else path.with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    Path(folder, "recipe.toml").write_text(PAYLOAD["recipe"], encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--unpack"]:
        unpack(sys.argv[2])
        sys.exit()
    install()
    from {entry} import main

    sys.exit(main(PAYLOAD["recipe"], Path(__file__).read_bytes()))
'''
