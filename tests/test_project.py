"The project around the library: one source for each fact, clean notebooks, documented names, packages that hold everything"
import ast
import configparser
import inspect
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NBS = sorted(o for o in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in o.parts)
def name(p): return p.relative_to(ROOT/'nbs').as_posix()
def src(c): return ''.join(c['source'])

@pytest.fixture(scope='module')
def settings():
    cfg = configparser.ConfigParser(interpolation=None)
    cfg.read(ROOT/'settings.ini', encoding='utf-8')
    return cfg['DEFAULT']

@pytest.fixture(scope='module')
def pyproject():
    toml = pytest.importorskip('tomllib', reason='tomllib is there from Python 3.11')
    return toml.loads((ROOT/'pyproject.toml').read_text(encoding='utf-8'))

def test_version_in_one_place(settings):
    "Only textnb/__init__.py holds the version"
    import textnb
    assert re.fullmatch(r'\d+\.\d+\.\d+\w*', textnb.__version__)
    assert 'version' not in settings
    pat = re.compile(rf'version\W{{1,5}}{re.escape(textnb.__version__)}\b')
    for o in 'pyproject.toml', 'settings.ini', 'setup.py', 'nbs/_quarto.yml': assert not pat.search((ROOT/o).read_text(encoding='utf-8')), o

def test_no_key_in_two_places(settings, pyproject):
    "What settings.ini says, pyproject.toml leaves to it, and setup.py gives a value to every name that is left"
    p = pyproject['project']
    both = {'description', 'authors', 'license', 'keywords', 'classifiers', 'requires-python', 'dependencies', 'optional-dependencies', 'entry-points', 'scripts'}
    assert not both&p.keys()
    assert set(p['dynamic']) == both|{'version'}
    given = {k.arg for o in ast.walk(ast.parse((ROOT/'setup.py').read_text(encoding='utf-8'))) if isinstance(o, ast.Call) for k in o.keywords}
    assert {'description', 'author', 'license_expression', 'keywords', 'classifiers', 'python_requires', 'install_requires', 'extras_require', 'entry_points'} <= given

def test_every_requirement_is_pinned(settings):
    "constraints.txt names a version of every package that we ask for, on every Python"
    pins = (ROOT/'constraints.txt').read_text(encoding='utf-8').lower().replace('_', '-')
    for k in [k for k in settings if k.endswith('requirements')]:
        for r in settings[k].strip().splitlines():
            nm = re.match(r'[\w.-]+', r)[0].lower().replace('_', '-')
            assert re.search(rf'^{re.escape(nm)}==', pins, re.M), f'{nm} ({k}) has no pin in constraints.txt'

def test_extras_are_part_of_dev(settings):
    "Whatever an extra brings is there for the tests too"
    dev = settings['dev_requirements'].split('\n')
    for k in [k for k in settings if k.endswith('_requirements') and k!='dev_requirements']:
        for r in settings[k].strip().splitlines(): assert r in dev, f'{r} of {k} is not in dev_requirements'

@pytest.fixture(scope='module')
def packages(tmp_path_factory):
    "An sdist of the sources, and a wheel built from that sdist alone"
    if (ROOT/'.git').exists(): files = subprocess.run(['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split('\n')
    else: files = [o.relative_to(ROOT).as_posix() for d in ('textnb', 'nbs') for o in (ROOT/d).rglob('*')]
    top,out = tmp_path_factory.mktemp('src'),tmp_path_factory.mktemp('dist')
    wanted = [*(o for o in files if o.startswith('textnb/')), 'setup.py', 'settings.ini', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE']
    for o in wanted:
        if (ROOT/o).is_file(): (top/o).parent.mkdir(parents=True, exist_ok=True); (top/o).write_bytes((ROOT/o).read_bytes())
    code = 'import sys, setuptools.build_meta as b; print((b.build_sdist if sys.argv[1]=="sdist" else b.build_wheel)(sys.argv[2]))'
    def build(kind, cwd):
        r = subprocess.run([sys.executable, '-c', code, kind, str(out)], cwd=cwd, capture_output=True, text=True)
        assert r.returncode==0, r.stderr[-2000:]
        return out/r.stdout.split()[-1]
    sdist = build('sdist', top)
    with tarfile.open(sdist) as t: t.extractall(out)
    return sdist,build('wheel', out/sdist.name[:-len('.tar.gz')]),wanted

def test_sdist_and_wheel_hold_everything(packages):
    "Every module, the licence and the command are in the wheel that is built from the sdist"
    sdist,wheel,wanted = packages
    with zipfile.ZipFile(wheel) as z:
        names = set(z.namelist())
        meta = z.read(next(o for o in names if o.endswith('dist-info/METADATA'))).decode()
        entry = z.read(next(o for o in names if o.endswith('entry_points.txt'))).decode()
    assert not {o for o in wanted if o.endswith('.py') and o.startswith('textnb/')}-names
    assert any(o.endswith('LICENSE') for o in names)
    assert 'textnb = textnb.command.parser:main' in entry and 'textnb._modidx:d' in entry
    assert 'License-Expression: Apache-2.0' in meta and 'Requires-Python: >=3.10' in meta and '# textnb' in meta

@pytest.mark.parametrize('path', NBS, ids=name)
def test_notebook_is_clean(path):
    "No widget state, no run numbers, no path or address of a machine, no error and no progress bar in what is committed"
    raw = path.read_text(encoding='utf-8')
    nb = json.loads(raw)
    assert set(nb['metadata']) <= {'kernelspec'}
    assert 'application/vnd.jupyter.widget' not in raw.replace('application/vnd.jupyter.widget-{o}+json', '')
    outs = json.dumps([c.get('outputs', []) for c in nb['cells']])
    for pat in r'/root/', r'/home/\w', r'/Users/\w', r'/tmp/', r'C:\\\\', r'\bat 0x[0-9a-f]{6}', r'#T_[0-9a-f]{5}', r'it/s\]', r'"output_type": "error"':
        assert not re.search(pat, outs), f'{pat} in an output'
    for c in nb['cells']:
        assert c.get('execution_count') is None
        assert not re.search(r'/root/|/home/\w+/|/work/', src(c)), f'a path of one machine in: {src(c)[:80]}'

@pytest.mark.parametrize('path', NBS, ids=name)
def test_notebook_has_a_title(path):
    "The first cell holds a title and a one-line subtitle, as Markdown or as front matter"
    c = json.loads(path.read_text(encoding='utf-8'))['cells'][0]
    if c['cell_type']=='raw': assert re.search(r'^title: .+', src(c), re.M) and re.search(r'^description: .+', src(c), re.M)
    else: assert re.match(r'# \S.*\n+> \S.*(\n\n|$)', src(c)), f'no "# Title" with a "> subtitle" under it: {src(c)[:80]}'

@pytest.mark.parametrize('path', NBS, ids=name)
def test_outputs_are_shown(path):
    "A lesson was run before it was committed: where its last visible line is an expression, there is an output"
    nb,missing = json.loads(path.read_text(encoding='utf-8')),[]
    for c in nb['cells']:
        s = src(c)
        if c['cell_type']!='code' or re.search(r'^#\| *(hide|eval: *false|export)', s, re.M) or s.rstrip().endswith(';'): continue
        try: body = ast.parse(s).body
        except SyntaxError: continue
        last = body[-1] if body else None
        if isinstance(last, ast.Expr) and isinstance(last.value, (ast.Name, ast.Tuple, ast.List)) and not c.get('outputs'): missing.append(s)
    assert not missing, f'no output saved for: {missing[0]}'

def test_modules_carry_no_edits():
    "Each module says which notebook it comes from, and that notebook is there"
    for f in sorted((ROOT/'textnb').rglob('*.py')):
        if f.name in ('__init__.py', '_modidx.py'): continue
        m = re.search(r'# AUTOGENERATED! DO NOT EDIT! File to edit: (\S+\.ipynb)', f.read_text(encoding='utf-8'))
        assert m, f'{f.name} is not exported from a notebook'
        assert (f.parent/m[1]).resolve().exists(), f'{f.name}: {m[1]} is not there'

def public():
    "The names of `textnb.all` that are defined in textnb"
    import textnb.all as t
    objs = {k: getattr(t, k) for k in dir(t) if k[0]!='_'}
    return {k: o for k,o in objs.items() if (inspect.isclass(o) or inspect.isfunction(o)) and (o.__module__ or '').startswith('textnb.')}

def test_public_names_have_docstrings():
    "Every public name says in a line what it is"
    bad = [k for k,o in public().items() if not (inspect.getdoc(o) or '').strip()]
    assert not bad, f'no docstring: {", ".join(bad)}'

def test_public_functions_have_docments():
    "Every argument of a public function is explained on its own line"
    from fastcore.docments import docments
    bad = []
    for k,f in public().items():
        if not inspect.isfunction(f): continue
        ps = [n for n,p in inspect.signature(f).parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        bad += [f'{k}({n})' for n in ps if not (docments(f).get(n) or '')]
    assert not bad, f'{len(bad)} arguments without a word: {", ".join(bad)}'

def test_import_brings_no_heavy_guests():
    "`from textnb.all import *` leaves matplotlib, ipywidgets and the extras for those who use them"
    code = 'import sys, textnb.all; print([m for m in ("matplotlib", "ipywidgets", "sklearn", "spacy", "sentencepiece", "tokenizers", "pyarrow.parquet", "nbdev") if m in sys.modules])'
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert r.stdout.strip() == '[]'

def test_makefile_targets_are_explained():
    "`make` alone lists every target that a newcomer needs"
    text = (ROOT/'Makefile').read_text(encoding='utf-8')
    for t in 'help', 'demo', 'test', 'docs', 'bench', 'lint', 'clean': assert re.search(rf'^{t}:.*## \w', text, re.M), t
    assert 'make test' in (ROOT/'.ci'/'run').read_text()
