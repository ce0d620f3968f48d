"Plain code: what CONTRIBUTING asks of every code cell, looked for in all notebooks"
import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NBS = sorted(o for o in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in o.parts)
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.While, ast.ExceptHandler, ast.comprehension, ast.Assert)
def name(f): return f.relative_to(ROOT/'nbs').as_posix()

def cells(f):
    "(number, source, syntax tree, marks, outputs) of each code cell of the notebook `f`"
    for i, c in enumerate(json.loads(f.read_text(encoding='utf-8'))['cells']):
        if c['cell_type']!='code': continue
        source = ''.join(c['source'])
        marks = set(re.findall(r'^#\| *(\w+)', source, re.M))
        code = '\n'.join(o for o in source.split('\n') if not re.match(r'\s*[%!]', o))
        try: tree = ast.parse(code)
        except SyntaxError: tree = ast.Module([], [])
        yield i, source, tree, marks, c.get('outputs', [])

def complexity(function):
    "One more than the number of branches in `function`"
    n = 1+sum(isinstance(o, BRANCHES) for o in ast.walk(function))
    return n+sum(len(o.values)-1 for o in ast.walk(function) if isinstance(o, ast.BoolOp))

@pytest.mark.parametrize('f', NBS, ids=name)
def test_lines_end_at_column_120(f):
    "Code, documentation of parameters and examples alike"
    long = [(i, len(o), o[:60]) for i, source, *_ in cells(f) for o in source.split('\n') if len(o)>120 and 'http' not in o and not o.startswith('#|')]
    assert long == []

@pytest.mark.parametrize('f', NBS, ids=name)
def test_one_thing_a_line(f):
    "No conditional expression inside another, no assignment of four values, no statement that is a bare value, no tangle, in what is exported"
    bad = []
    for i, source, tree, marks, _ in cells(f):
        if not marks&{'export', 'exports', 'exporti'}: continue
        for node in ast.walk(tree):
            if isinstance(node, ast.IfExp) and any(isinstance(o, ast.IfExp) for o in ast.walk(node) if o is not node):
                bad.append(f'cell {i}: a conditional expression inside another: {ast.unparse(node)[:80]}')
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
                if len(node.targets[0].elts)>=4: bad.append(f'cell {i}: an assignment of four values: {ast.unparse(node)[:80]}')
            if isinstance(node, ast.Expr) and isinstance(node.value, (ast.Tuple, ast.Attribute, ast.Name)):
                bad.append(f'cell {i}: a bare value: {ast.unparse(node)[:80]}')
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and complexity(node)>12:
                bad.append(f'cell {i}: {node.name} has a complexity of {complexity(node)}')
    assert bad == []

@pytest.mark.parametrize('f', NBS, ids=name)
def test_something_runs_after_two_definitions(f):
    "What is defined is run and seen before more is defined"
    run, bad = [], []
    for i, source, tree, marks, outputs in cells(f):
        defines = any(isinstance(o, (ast.FunctionDef, ast.ClassDef)) for o in tree.body)
        if marks&{'export', 'exports', 'exporti'}:
            if defines: run.append(i)
        elif 'hide' not in marks and outputs:
            if len(run)>2: bad.append(run)
            run = []
    if len(run)>2: bad.append(run)
    assert bad == []
