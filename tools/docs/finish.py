"What is done to the rendered pages: no web fonts, formulas that every browser draws, names in code that lead to their definition"
import html
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tools.docs.outputs import NPM

VENDOR = {'mermaid': 'mermaid.esm.min.mjs chunks/mermaid.esm.min/*.mjs', '@jupyter-widgets/html-manager': 'embed.js *.woff2'}
_font = re.compile(r'@import\s+url\(["\']?https?://fonts\.[^)]*\);?')
_tex = re.compile(r'<span class="math (inline|display)">\\[(\[](.*?)\\[)\]]</span>', re.S)
_katex = re.compile(r'<link[^>]*/katex@[^>]*>|<script[^>]*/katex@[^>]*></script>')
_symbol = re.compile(r'<a\b[^>]*?href="([^"#]*)#([^"]+)"[^>]*>(<code[^>]*>[^<]*</code>)</a>')
_code = re.compile(r'(<code class="sourceCode python"[^>]*>)(.*?)(</code>)', re.S)
_piece = re.compile(r'<span class="(\w+)">[^<]*</span>|<[^>]*>|[^<]+')
_name = re.compile(r'(?<![\w.&#])[A-Za-z_]\w*\b(?!\s*=(?!=))')


def rewrite(site, pattern, change):
    "Put `change(text, file)` in the place of the text of each file of `site` that fits `pattern`; the result is how many changed"
    n = 0
    for f in sorted(Path(site).rglob(pattern)):
        old = f.read_text(encoding='utf-8')
        new = change(old, f)
        if new==old: continue
        f.write_text(new, encoding='utf-8')
        n += 1
    return n


def drop_fonts(site):
    "Take the imports of web fonts out of the style sheets of `site`; the result is how many were changed"
    return rewrite(site, '*.css', lambda text, f: _font.sub('', text))


def mathml(tex, display=False):
    "The formula `tex`, without its dollars, as MathML, which a browser draws without a program"
    from latex2mathml.converter import convert
    tex = tex.replace(r'\_', '_').replace(r'\setminus', r'\backslash ')  # two things that latex2mathml takes otherwise than TeX
    return convert(tex, display='block' if display else 'inline')


def draw_formulas(site):
    "Put MathML in the place of TeX in all pages of `site`, and take out what would load KaTeX; the result is how many pages changed"
    def drawn(m): return mathml(html.unescape(m[2]), m[1]=='display')
    return rewrite(site, '*.html', lambda text, f: _tex.sub(drawn, _katex.sub('', text)))


def vendor(site, node_modules):
    "Serve Mermaid and the widget manager from `site` itself, as npm installed them in `node_modules`"
    for name, globs in VENDOR.items():
        dist = Path(node_modules)/name/'dist'
        if not dist.is_dir(): raise FileNotFoundError(f'{dist} is not there: npm install {" ".join(VENDOR)}')
        for f in [f for g in globs.split() for f in dist.glob(g)]:
            to = site/'site_libs'/name/f.relative_to(dist)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(f, to)
    address = re.compile(rf'{re.escape(NPM)}/({"|".join(VENDOR)})@[^/]+/dist')
    def change(text, f):
        up = './'+'../'*(len(f.relative_to(site).parts)-1)
        return address.sub(rf'{up}site_libs/\1', text)
    rewrite(site, '*.html', change)


class Anchors(HTMLParser):
    "The anchors (`ids`) and the `links` of one page"
    def __init__(self):
        super().__init__()
        self.ids = set()
        self.links = []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs[k] for k in ('id', 'name') if attrs.get(k)}
        self.links += [attrs[k] for k in ('href', 'src') if attrs.get(k)]


def read_anchors(f):
    "The anchors and links of the page `f`"
    parser = Anchors()
    parser.feed(f.read_text(encoding='utf-8'))
    return parser


def mend_symbols(site):
    "Point links of names without a heading to their class, or unlink them; the result is how many pages changed"
    site = Path(site).resolve()
    ids = {f: read_anchors(f).ids for f in site.rglob('*.html')}
    def mended(m, f):
        to = (f.parent/unquote(m[1])).resolve() if m[1] else f
        known, cls = ids.get(to), m[2].split('.')[0]
        if known is None or m[2] in known or ':' in m[1]: return m[0]
        return m[0].replace(f'#{m[2]}"', f'#{cls}"') if cls in known else m[3]
    return rewrite(site, '*.html', lambda text, f: _symbol.sub(lambda m: mended(m, f), text))


def link_code(site, symbols):
    "Make each name of `symbols` (name -> page#anchor) in the code of all pages a link, a private one on its own page alone; the result is how many pages changed"
    site = Path(site).resolve()
    def linked(text, f):
        up = '../'*(len(f.relative_to(site).parts)-1)
        here = f.relative_to(site).as_posix()
        def name(m):
            if m[0] not in symbols: return m[0]
            address, anchor = symbols[m[0]].split('#')
            if m[0][0]=='_' and address!=here: return m[0]
            return f'<a class="name" href="{"" if address==here else up+address}#{anchor}">{m[0]}</a>'
        def piece(m):
            if m[0][0]!='<': return _name.sub(name, m[0])
            if m[1]=='at': return re.sub(r'(?<=>)[^<]+', lambda o: _name.sub(name, o[0]), m[0])
            return m[0]
        return _code.sub(lambda m: m[1]+_piece.sub(piece, m[2])+m[3], text)
    return rewrite(site, '*.html', linked)


def broken(site):
    "Links within `site` to a file or to an anchor that is not there: one line for each, the page and the link"
    site = Path(site).resolve()
    pages = {f: read_anchors(f) for f in site.rglob('*.html')}
    found = []
    for f, page in pages.items():
        for link in sorted(set(page.links)):
            url = urlsplit(link)
            if url.scheme or url.netloc: continue
            start = site if url.path[:1]=='/' else f.parent
            to = start.joinpath(unquote(url.path).lstrip('/')).resolve() if url.path else f
            if to.is_dir(): to = to/'index.html'
            lost_anchor = url.fragment and to in pages and unquote(url.fragment) not in pages[to].ids
            if not to.exists() or lost_anchor: found.append(f'{f.relative_to(site).as_posix()}: {link}')
    return sorted(found)
