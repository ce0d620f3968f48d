"""One notebook as a page: every exported cell stands on it, in a fold, under the documentation of what it defines

A cell marked `#| exports` is one that the lesson is about: its fold is open."""
import ast
import importlib
import os
import re
from contextlib import contextmanager

EXPORTS = {'export', 'exports', 'exporti'}
_title = re.compile(r'# .+\n+(?:>.*\n?)+')
_default_exp = re.compile(r'^#\| *default_exp +(\S+)', re.M)


def split_intro(source):
    "The first cell of a notebook in two: title with subtitle, and what follows them"
    m = _title.match(source)
    if m is None: return source, ''
    return m[0].strip(), source[m.end():].strip()


@contextmanager
def as_if_tested(folder):
    "Work in `folder` with `IN_TEST` set"
    cwd = os.getcwd()
    old = os.environ.get('IN_TEST')
    os.environ['IN_TEST'] = '1'
    os.chdir(folder)
    try: yield
    finally:
        os.chdir(cwd)
        os.environ.pop('IN_TEST')
        if old is not None: os.environ['IN_TEST'] = old


def patched_classes(function):
    "The classes that `function` (a node of the syntax tree) is patched onto: `@patch def f(self:A|B)` gives ['A', 'B']"
    names = [ast.unparse(o) for o in function.decorator_list]
    if not any(o.split('(')[0].endswith('patch') for o in names): return []
    first = (function.args.posonlyargs+function.args.args)[:1]
    if not first or first[0].annotation is None: return []
    return re.findall(r'\w+', ast.unparse(first[0].annotation))


def definitions(source):
    "The dotted names that the cell `source` defines, such as `Vocab`, `Vocab.decode` (patched) or `_path`"
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef): found.append(node.name)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            classes = patched_classes(node)
            found += [f'{c}.{node.name}' for c in classes] or [node.name]
    return found


def is_public(name):
    "Whether no part of the dotted `name` begins with an underscore"
    return not any(part.startswith('_') for part in name.split('.'))


def object_named(module, name):
    "What the dotted `name` is in `module`; None if it is not there (a definition that is deleted or replaced below)"
    value = module
    for part in name.split('.'):
        value = vars(value).get(part, getattr(value, part, None)) if value is not None else None
    return value.__func__ if isinstance(value, (classmethod, staticmethod)) else value


def entry(module, name):
    """The documentation of the dotted `name`: a heading that links lead to, the signature, what it does, and a table of its parameters

    A private name is documented by its source, and gets an anchor alone."""
    from textnb.base import show_doc
    value = object_named(module, name)
    if value is None or not is_public(name): return f'```{{=html}}\n<a id="{name.lower()}"></a>\n```'
    text = show_doc(value, title_level=0, name=name)
    heading = name.replace('_', r'\_')
    return f'::: {{.api}}\n\n#### {heading} {{#{name.lower()}}}\n\n{text}\n\n:::\n'


def summary(source):
    "What the fold of the exported cell `source` says it holds"
    names = definitions(source)
    if names: return 'Source of '+', '.join(names[:3])+(' …' if len(names)>3 else '')
    body = ast.parse(source).body
    if all(isinstance(o, (ast.Import, ast.ImportFrom)) for o in body): return 'Imports'
    targets = [ast.unparse(t) for o in body if isinstance(o, ast.Assign) for t in o.targets]
    return 'Source of '+', '.join(targets[:3]) if targets else 'Source'


def shown_exports(module):
    "A processor of nbdev that keeps exported cells in a fold, and puts the documentation of what they define above them"
    from fastcore.nbio import mk_cell
    from nbdev.process import Processor

    class ShowExports(Processor):
        def begin(self):
            cells = []
            for cell in self.nb.cells:
                if cell.cell_type=='code' and EXPORTS&set(cell.directives_):
                    cells += [mk_cell(entry(module, o), 'markdown') for o in definitions(cell.source)]
                    fold = 'show' if 'exports' in cell.directives_ else 'true'
                    cell.source = f'#| code-fold: {fold}\n#| code-summary: "{summary(cell.source)}"\n{cell.source}'
                cells.append(cell)
            for cell in cells: cell.directives_ = getattr(cell, 'directives_', {})
            self.nb.cells = cells

    return ShowExports


def drop_hidden(cell):
    "A processor of nbdev that removes hidden cells and the cell that names the module; exported ones stay"
    kinds = set(cell.directives_ or {})
    if cell.cell_type=='code' and 'default_exp' in kinds: del cell['source']
    elif cell.cell_type=='code' and 'hide' in kinds and not kinds&EXPORTS: del cell['source']


def process_notebook(src, dst):
    "Make the page of the notebook `src` ready for rendering, as the notebook `dst`; the result is the notebook's name"
    from fastcore.nbio import mk_cell, read_nb, write_nb
    from nbdev import processors as p
    from nbdev.process import NBProcessor
    nb = read_nb(src)
    name = _default_exp.search('\n'.join(c.source for c in nb.cells))
    module = importlib.import_module(f'textnb.{name[1]}'.removesuffix('.__init__')) if name else None
    nb.cells[0].source, intro = split_intro(nb.cells[0].source)
    if intro: nb.cells.insert(1, mk_cell(intro, 'markdown'))
    procs = [p.FrontmatterProc, p.populate_language, shown_exports(module), p.strip_ansi, p.hide_line, p.filter_stream_, p.rm_header_dash,
        p.clean_show_doc, drop_hidden, p.clean_magics, p.add_links, p.strip_hidden_metadata]
    with as_if_tested(src.parent): NBProcessor(nb=nb, procs=procs, rm_directives='quarto').process()
    dst.parent.mkdir(parents=True, exist_ok=True)
    write_nb(nb, dst)
    return src.stem
