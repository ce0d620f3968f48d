"""README.md is the front notebook, nbs/index.ipynb, printed as Markdown: one text, tested like any other notebook, in three places

Hidden cells stay out, links work from anywhere, pictures become files named after their cell."""
import json
import re
import tempfile
from base64 import b64decode
from pathlib import Path

from tools.docs.links import notebook_link, page
from tools.docs.outputs import joined
from tools.docs.pages import process_notebook


def fence(text, lang=''):
    "`text` as a block of code, with more backticks than it holds"
    longest = max(map(len, re.findall('`+', text)), default=0)
    ticks = '`'*max(3, longest+1)
    return f'{ticks}{lang}\n{text.strip()}\n{ticks}'


def output_markdown(output, img, files, alt=''):
    """One saved `output` of a cell as Markdown that GitHub shows; None if there is nothing to show

    Of its forms the richest that GitHub can show is taken. A picture is added to `files` under the path `img`, with the description `alt`."""
    if output['output_type']=='stream': return fence(joined(output['text']))
    data = {k: joined(v) for k, v in output.get('data', {}).items() if isinstance(v, (str, list))}
    if 'text/markdown' in data: return data['text/markdown']
    if 'image/png' in data:
        files[img] = b64decode(data['image/png'])
        width = output.get('metadata', {}).get('image/png', {}).get('width')
        size = f' width="{width}"' if width else ''
        return f'<img src="{img}" alt="{alt}"{size}>'
    if '<table' in data.get('text/html', ''): return re.sub(r'<style.*?</style>\s*', '', data['text/html'], flags=re.S).strip()
    return fence(data['text/plain']) if 'text/plain' in data else None


def cell_markdown(cell, img, base, files):
    "One `cell` with its outputs as Markdown; pictures go to the folder `img` and into `files`, links to the site at `base`"
    source = joined(cell['source']).strip()
    if cell['cell_type']=='markdown':
        source = notebook_link.sub(lambda m: base+page(m[0]).replace('.ipynb', '.html'), source)
        return source.replace('](images/', f']({img.as_posix()}/')
    options = dict(re.findall(r'^#\| *([\w-]+): *(.+)', source, flags=re.M))
    code = re.sub(r'^#\|.*\n?', '', source, flags=re.M).strip()
    parts = [fence(code, 'python')] if code and options.get('echo')!='false' else []
    for i, output in enumerate(cell.get('outputs', [])):
        path = (img/f'{cell["id"]}_{i}.png').as_posix()
        parts.append(output_markdown(output, path, files, options.get('fig-alt', '')))
    return '\n\n'.join(filter(None, parts))


def readme_markdown(nb, base='', img=Path('nbs/images')):
    "The processed front notebook `nb` as one Markdown text, and its pictures by path"
    import yaml
    files = {}
    front = yaml.safe_load(joined(nb['cells'][0]['source']).strip().strip('-'))
    parts = [f'# {front["title"]}']
    if front.get('description'): parts.append(f'> {front["description"]}')
    parts += [cell_markdown(c, img, base, files) for c in nb['cells'][1:]]
    return '\n\n'.join(filter(None, parts))+'\n', files


def write_changed(files, root):
    "Write each of `files` (contents as bytes, by path below `root`) that differs from what is there; the result is the paths that changed"
    changed = []
    for path, content in files.items():
        f = Path(root)/path
        if f.exists() and f.read_bytes()==content: continue
        f.parent.mkdir(parents=True, exist_ok=True)
        f.write_bytes(content)
        changed.append(f)
    return changed


def make_readme(root='.'):
    "Write README.md and its pictures from the front notebook of the project in `root`; the result is the files that changed"
    from nbdev.config import get_config
    root = Path(root).resolve()
    cfg = get_config(root)
    with tempfile.TemporaryDirectory() as folder:
        process_notebook(cfg.nbs_path/cfg.readme_nb, Path(folder)/'index.ipynb')
        nb = json.loads((Path(folder)/'index.ipynb').read_text(encoding='utf-8'))
    img = cfg.nbs_path.relative_to(root)/'images'
    text, files = readme_markdown(nb, cfg.doc_url.rstrip('/')+'/', img)
    old = [o for o in (root/img).glob('*_*.png') if o.relative_to(root).as_posix() not in files]
    for o in old: o.unlink()
    return old+write_changed({'README.md': text.encode(), **files}, root)
