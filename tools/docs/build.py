"""From notebooks to the site: nbs -> _proc (nbdev's processors and our own) -> _stage (pages by name) -> _docs (rendered by smalldocs)

None of it needs a network or a kernel. nbdev, PyYAML and smalldocs are needed here alone, and imported where they are used."""
import ast
import html
import json
import re
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path, PurePosixPath

from tools.docs.finish import broken, draw_formulas, drop_fonts, link_code, mend_symbols, vendor
from tools.docs.links import page
from tools.docs.outputs import joined, stage_page
from tools.docs.pages import EXPORTS, process_notebook

CLASSES = 'classes.ipynb'
SYMBOLS = '.symbols' # the index of names with which the processed pages were made: their links come from it


def to_yaml(value):
    import yaml
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def part_title(nbs, folder):
    "What the part in `folder` is called: the title of its own page, or the folder's name without its number"
    face = Path(nbs)/folder/'index.ipynb'
    if face.exists():
        first = joined(json.loads(face.read_text(encoding='utf-8'))['cells'][0]['source'])
        title = re.search(r'^(?:#|title:) *(.+)', first, re.M)
        if title: return title[1].strip('\'" ')
    return re.sub(r'^\d+_', '', folder).replace('_', ' ').capitalize()


def part_entry(notebook):
    "The line of the sidebar for `notebook`; the page of a part, whose title stands above it already, is called by what it is"
    return dict(text='About this part', href=notebook) if notebook.endswith('/index.ipynb') else notebook


def sidebar(notebooks, titles):
    "The sidebar as Quarto reads it: pages in reading order, those of a part together, its own page first; `titles` maps folders to titles"
    paths = sorted(PurePosixPath(o) for o in notebooks)
    paths.sort(key=lambda p: (p.parts[:-1], p.name!='index.ipynb', p.name))
    contents = [o.as_posix() for o in paths if o.as_posix()=='index.ipynb']
    numbered = sorted({o.parts[0] for o in paths if o.as_posix() not in ('index.ipynb', CLASSES)})
    for first in numbered:
        inside = [o.as_posix() for o in paths if o.parts[0]==first]
        if first.endswith('.ipynb'): contents += inside
        else: contents.append(dict(section=titles.get(first, first), contents=[part_entry(o) for o in inside]))
    return contents+[o.as_posix() for o in paths if o.as_posix()==CLASSES]


def stage_settings(text):
    "nbdev's generated settings of the site, without what smalldocs would warn about"
    import yaml
    settings = yaml.safe_load(text)
    settings.pop('format-links', None)
    settings['website'] = {k: v for k, v in settings['website'].items() if v}
    return to_yaml(settings)


def stage(proc, dst, base, titles):
    "Copy the processed project `proc` to the folder `dst`, each page under the name that links expect; the result names the notebooks"
    shutil.rmtree(dst, ignore_errors=True)
    notebooks = []
    for f in sorted(proc.rglob('*')):
        rel = f.relative_to(proc)
        if not f.is_file() or rel.parts[0]=='_docs' or rel.name in ('sidebar.yml', SYMBOLS): continue
        to = dst/(page(rel) if f.suffix=='.ipynb' else rel)
        to.parent.mkdir(parents=True, exist_ok=True)
        if f.suffix=='.ipynb':
            notebooks.append(rel.as_posix())
            nb = stage_page(json.loads(f.read_text(encoding='utf-8')), base, '../'*(len(rel.parts)-1))
            to.write_text(json.dumps(nb), encoding='utf-8')
        elif rel.name=='nbdev.yml': to.write_text(stage_settings(f.read_text(encoding='utf-8')), encoding='utf-8')
        else: shutil.copy2(f, to)
    contents = json.dumps(sidebar(notebooks, titles))
    contents = json.loads(re.sub(r'[\w/.-]+\.ipynb', lambda m: page(m[0]), contents))
    (dst/'sidebar.yml').write_text(to_yaml(dict(website=dict(sidebar=dict(contents=contents)))), encoding='utf-8')
    return notebooks


def process(nbs, proc, newest=0., n_workers=2):
    "Bring the processed project `proc` up to date with the notebooks in `nbs`; pages older than `newest` (a modification time) are made again"
    def wanted(f):
        folders = f.relative_to(nbs).parts[:-1]
        return f.is_file() and f.name[0]!='.' and not any(o[0] in '._' for o in folders)
    files = {f: proc/f.relative_to(nbs) for f in sorted(nbs.rglob('*')) if wanted(f)}
    for old in [f for f in proc.rglob('*') if f.is_file() and f.name!=SYMBOLS and f not in files.values()]: old.unlink()
    def stale(f, to): return not to.exists() or to.stat().st_mtime<max(f.stat().st_mtime, newest)
    todo = {f: to for f, to in files.items() if stale(f, to)}
    notebooks = {f: to for f, to in todo.items() if f.suffix=='.ipynb'}
    for f, to in todo.items():
        to.parent.mkdir(parents=True, exist_ok=True)
        if f not in notebooks: shutil.copy2(f, to)
    if not notebooks: return []
    with ProcessPoolExecutor(min(n_workers, len(notebooks)), mp_context=get_context('spawn')) as pool:
        return list(pool.map(process_notebook, notebooks, notebooks.values()))


def library_symbols(root):
    "Name of the library -> page#anchor of its definition, from the index that nbdev exports; a name with two homes is left out"
    tree = ast.parse((Path(root)/'textnb'/'_modidx.py').read_text(encoding='utf-8'))
    index = ast.literal_eval(tree.body[-1].value)
    found, twice = {}, set()
    for module, names in index['syms'].items():
        for full, (address, _) in names.items():
            name = full[len(module)+1:]
            if name in found: twice.add(name)
            found[name] = address
    return {k: v for k, v in found.items() if k not in twice}


def library_bases(root):
    "Class of the library -> the names of its base classes, in the order of its definition"
    bases = {}
    for f in sorted((Path(root)/'textnb').rglob('*.py')):
        for node in ast.parse(f.read_text(encoding='utf-8')).body:
            if isinstance(node, ast.ClassDef): bases[node.name] = [ast.unparse(o) for o in node.bases]
    return bases


def classes_page(symbols, bases):
    "A notebook that lists each public class with its methods, each beside the page that defines it, and the classes it takes more from (`bases`)"
    classes = {}
    for name, address in symbols.items():
        cls, _, method = name.partition('.')
        if cls[:1].isupper() and not method.startswith('_'): classes.setdefault(cls, {})[method] = address
    rows = ['| class | methods | page |', '|---|---|---|']
    for cls in sorted(classes, key=str.lower):
        methods = classes[cls]
        home = methods.pop('', next(iter(methods.values()), ''))
        links = ', '.join(f'[`{m}`]({methods[m]})' for m in sorted(methods))
        where = sorted({o.split('#')[0] for o in [home, *methods.values()]})
        pages = ', '.join(f'[{PurePosixPath(o).stem}]({o})' for o in where)
        parents = [f'[`{o}`]({symbols[o]})' for o in bases.get(cls, []) if o in symbols]
        more = f'{"; " if links else ""}those of {", ".join(parents)}' if parents else ''
        rows.append(f'| [`{cls}`]({home}) | {links}{more} | {pages} |')
    head = '---\ntitle: Classes and their methods\ndescription: Every public class, its methods, and the notebooks that define them\n---'
    cells = [dict(cell_type='raw', id='head', metadata={}, source=head), dict(cell_type='markdown', id='rows', metadata={}, source='\n'.join(rows))]
    return dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)


def squeezed(text):
    "`text` without blanks, to compare code however it is wrapped"
    return re.sub(r'\s+', '', text)


def lost_code(nbs, site):
    "Exported cells of the notebooks in `nbs` that do not stand on their page: one line for each"
    lost = []
    for f in sorted(Path(nbs).rglob('*.ipynb')):
        if '.ipynb_checkpoints' in f.parts: continue
        rendered = site/page(f.relative_to(nbs)).replace('.ipynb', '.html')
        text = squeezed(html.unescape(re.sub(r'<[^>]+>', '', rendered.read_text(encoding='utf-8'))))
        for i, cell in enumerate(json.loads(f.read_text(encoding='utf-8'))['cells']):
            source = joined(cell['source'])
            marks = set(re.findall(r'^#\| *(\w+)', source, re.M))
            if cell['cell_type']!='code' or not marks&EXPORTS: continue
            code = '\n'.join(o for o in source.split('\n') if not o.startswith('#|'))
            if squeezed(code) not in text: lost.append(f'cell {i} of {f.relative_to(nbs).as_posix()} is not on its page')
    return lost


def build_site(dest=None, node_modules=None, force=False, n_workers=2):
    """Build the site of the project in the current folder into `dest` (default: the project's `_docs`)

    `node_modules`: where npm installed Mermaid and the widget manager, for a site that needs no network. `force`: process all notebooks again.
    The result is the folder of the site and a list of warnings."""
    from nbdev.config import get_config
    from nbdev.doclinks import _build_modidx
    from nbdev.quarto import refresh_quarto_yml
    from smalldocs.site import build
    cfg = get_config()
    dest = Path(dest or cfg.doc_path)
    proc, staged = cfg.config_path/'_proc', cfg.config_path/'_stage'
    refresh_quarto_yml()
    _build_modidx()
    symbols = library_symbols(cfg.config_path)
    made_with = json.dumps(symbols, sort_keys=True)
    known = proc/SYMBOLS
    force = force or not known.exists() or known.read_text(encoding='utf-8')!=made_with
    process(cfg.nbs_path, proc, time.time() if force else cfg.config_file.stat().st_mtime, n_workers)
    known.write_text(made_with, encoding='utf-8')
    folders = [o.name for o in cfg.nbs_path.iterdir() if o.is_dir()]
    titles = {o: part_title(cfg.nbs_path, o) for o in folders}
    (proc/CLASSES).write_text(json.dumps(classes_page(symbols, library_bases(cfg.config_path))), encoding='utf-8')
    notebooks = stage(proc, staged, cfg.doc_url.rstrip('/')+'/', titles)
    contents = sidebar(notebooks, titles)
    (cfg.nbs_path/'sidebar.yml').write_text(to_yaml(dict(website=dict(sidebar=dict(contents=contents)))), encoding='utf-8')
    site = build(str(staged), quiet=True)
    shutil.rmtree(dest, ignore_errors=True)
    shutil.move(staged/cfg.doc_path.name, dest)
    shutil.rmtree(staged)
    drop_fonts(dest)
    draw_formulas(dest)
    mend_symbols(dest)
    link_code(dest, {k: v for k, v in symbols.items() if '.' not in k and len(k)>3})
    if node_modules: vendor(dest, node_modules)
    warnings = [*site.warnings, *(f'broken link in {o}' for o in broken(dest)), *lost_code(cfg.nbs_path, dest)]
    return dest, warnings
