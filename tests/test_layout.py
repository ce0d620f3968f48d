"The house: the same folders in nbs/ and textnb/, imports that run one way, parts that are known by their face"
import ast
import importlib
import inspect
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = 'text train models learn write explain panels command base'.split()
MAY_IMPORT = dict(base=[], text=['base'], train=['base', 'text'], models=['base', 'text'], learn=['base', 'text', 'train', 'models'])
MAY_IMPORT['write'] = [*MAY_IMPORT['learn'], 'learn']
MAY_IMPORT['explain'] = [*MAY_IMPORT['write'], 'write']
MAY_IMPORT['panels'] = [*MAY_IMPORT['explain'], 'explain']
MAY_IMPORT['command'] = [*MAY_IMPORT['panels'], 'panels']
MODULES = [f for part in PARTS for f in sorted((ROOT/'textnb'/part).glob('*.py'))]
def name(f): return f.relative_to(ROOT/'textnb').as_posix()

def folder(part):
    "The notebooks' folder of `part`"
    return next(ROOT.glob(f'nbs/[0-9][0-9]_{part}'))

def imports(f):
    "(module, names, whether it runs with the module) of each import of textnb in the file `f`; modules by their full name"
    package = f.relative_to(ROOT).parent.parts
    tree = ast.parse(f.read_text(encoding='utf-8'))
    for node in ast.walk(tree):
        found = []
        if isinstance(node, ast.Import): found = [(o.name, []) for o in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package)-node.level+1] if node.level else ()
            found = [('.'.join([*base, *filter(None, [node.module])]), [o.name for o in node.names])]
        for module, names in found:
            if module.split('.')[0]=='textnb': yield module, names, node in tree.body

@pytest.mark.parametrize('f', MODULES, ids=name)
def test_imports_run_one_way(f):
    "A module imports from its own part, or from the face of a part that stands before it"
    part = f.parent.name
    for module, names, _ in imports(f):
        parts = module.split('.')
        if len(parts)==1 or parts[1] not in PARTS: continue
        if parts[1]==part: continue
        assert parts[1] in MAY_IMPORT[part], f'{name(f)} imports {module}: {part} may import {MAY_IMPORT[part]}'
        assert len(parts)==2, f'{name(f)} imports {module}: other parts are imported by their face, textnb.{parts[1]}'

@pytest.mark.parametrize('part', PARTS)
def test_imports_within_a_part_run_backwards(part):
    "A module imports from modules whose notebooks come before its own; the face comes last"
    order = [re.sub(r'^\d+\w?_', '', f.stem) for f in sorted(folder(part).glob('[0-9]*.ipynb'))]
    for f in sorted((ROOT/'textnb'/part).glob('*.py')):
        if f.stem=='__init__': continue
        for module, names, at_top in imports(f):
            other = module.split('.')
            if other[1:2]!=[part] or len(other)<3 or other[2]==f.stem or not at_top: continue
            assert order.index(other[2])<order.index(f.stem), f'{name(f)} imports {other[2]}, which is read later'

@pytest.mark.parametrize('part', PARTS)
def test_notebooks_and_modules_have_one_name(part):
    "nbs/01_text/04_vocab.ipynb is textnb/text/vocab.py, and the page of a part is its face"
    wanted = {'__init__'}
    for f in folder(part).glob('*.ipynb'):
        source = '\n'.join(''.join(c['source']) for c in json.loads(f.read_text(encoding='utf-8'))['cells'])
        module = re.search(r'^#\| *default_exp +(\S+)', source, re.M)
        own = '__init__' if f.stem=='index' else re.sub(r'^\d+\w?_', '', f.stem)
        assert module and module[1] in (f'{part}.{own}', own, f'__{own}__'), f'{f.name} makes {module and module[1]}'
        if module[1].startswith(f'{part}.'): wanted.add(own)
    assert {f.stem for f in (ROOT/'textnb'/part).glob('*.py')} == wanted

@pytest.mark.parametrize('part', PARTS)
def test_modules_do_not_share_their_name_with_a_function(part):
    "`textnb.explain.lrp` would be a module for one import and a function for the next"
    face = importlib.import_module(f'textnb.{part}')
    for f in (ROOT/'textnb'/part).glob('[a-z]*.py'):
        value = getattr(face, f.stem, None)
        assert value is None or inspect.ismodule(value), f'{part}.{f.stem} is {value!r} as well'

def test_no_private_name_crosses_a_module():
    "What another module needs is public, with its docments"
    crossing = [f'{name(f)}: {module}.{o}' for f in MODULES for module, names, _ in imports(f) for o in names if re.match(r'_[^_]', o)]
    assert crossing == []

def test_every_public_name_has_one_home():
    "No two modules define the same public function or class"
    homes = {}
    for f in MODULES:
        for node in ast.parse(f.read_text(encoding='utf-8')).body:
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith('_'): continue
            if any('patch' in ast.unparse(o) for o in node.decorator_list): continue
            homes.setdefault(node.name, set()).add(name(f))
    assert {k: sorted(v) for k, v in homes.items() if len(v)>1} == {}
