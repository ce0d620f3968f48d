"What makes the docs site and the README, piece by piece; tests/test_site.py builds the whole"
import os
from pathlib import Path

import pytest

pytest.importorskip('nbdev')
from tools.docs import build, finish, links, outputs, pages, readme

def test_page_names():
    assert links.page('02_transform.ipynb') == 'transform.ipynb'
    assert links.page('03a_store.ipynb') == 'store.ipynb'
    assert links.page('10_lessons/01_quickstart.ipynb') == '10_lessons/quickstart.ipynb'

def test_links():
    s = 'See [the store](03_corpus.ipynb#memory) and [`Vocab`](https://textnb.org/01_text/vocab.html#vocab)'
    assert links.fix_links(s, 'https://textnb.org/', '../') == 'See [the store](corpus.ipynb#memory) and [`Vocab`](../01_text/vocab.html#vocab)'
    assert links.fix_links('[x](https://other.org/01_a.ipynb)', 'https://textnb.org/') == '[x](https://other.org/01_a.ipynb)'
    assert links.short_names('def f(a:textnb.base.config.DatasetType, b:torch.Tensor)->__main__.B:') == 'def f(a:DatasetType, b:torch.Tensor)->B:'
    assert links.short_names('https://textnb.github.io/textnb/09_base/core.html') == 'https://textnb.github.io/textnb/09_base/core.html'

def test_outputs():
    o = dict(data={'image/png': 'iVBORw0=', 'text/plain': '<Figure>'}, metadata={'image/png': {'width': 320}})
    assert not outputs.fix_output(o, {}, alt='losses')
    assert o['data']['text/html'] == '<img src="data:image/png;base64,iVBORw0=" class="img-fluid" alt="losses" width="320">'
    o = dict(data={outputs.VIEW: {'model_id': 'a'}, 'text/html': 'shaded'})
    assert (outputs.fix_output(o, {}), o['data']) == (False, {'text/html': 'shaded'})
    o = dict(data={outputs.VIEW: {'model_id': 'a'}, 'text/html': 'shaded'})
    assert outputs.fix_output(o, {'a': {}}) and 'model_id' in o['data']['text/html']

@pytest.fixture
def cells():
    raw = dict(cell_type='raw', source=['---\n', 'title: Core\n', 'output-file: core.html\n', '---\n'])
    return [raw, dict(cell_type='markdown', source='[next](01_datasets.ipynb)')]

def test_a_staged_page(cells):
    outputs.stage_page(dict(metadata={}, cells=cells), 'https://textnb.org/')
    assert [c['source'] for c in cells] == ['---\ntitle: Core\n---\n', '[next](datasets.ipynb)']

def test_sidebar():
    titles = {'01_text': 'Text', '10_lessons': 'Lessons'}
    books = ['10_lessons/01_a.ipynb', '01_text/02_b.ipynb', '01_text/index.ipynb', '00_tour.ipynb', 'index.ipynb', '01_text/01_a.ipynb', build.CLASSES]
    text = dict(section='Text', contents=[dict(text='About this part', href='01_text/index.ipynb'), '01_text/01_a.ipynb', '01_text/02_b.ipynb'])
    lessons = dict(section='Lessons', contents=['10_lessons/01_a.ipynb'])
    assert build.sidebar(books, titles) == ['index.ipynb', '00_tour.ipynb', text, lessons, build.CLASSES]
    assert build.sidebar([], titles) == []

def test_stage(tmp_path, cells):
    import json
    proc, dst = tmp_path/'_proc', tmp_path/'_stage'
    (proc/'10_lessons').mkdir(parents=True)
    for o in '00_core.ipynb', '10_lessons/01_quickstart.ipynb': (proc/o).write_text(json.dumps(dict(metadata={}, cells=cells)))
    assert build.stage(proc, dst, 'https://textnb.org/', {}) == ['00_core.ipynb', '10_lessons/01_quickstart.ipynb']
    assert sorted(o.relative_to(dst).as_posix() for o in dst.rglob('*.*')) == ['10_lessons/quickstart.ipynb', 'core.ipynb', 'sidebar.yml']
    text = (dst/'sidebar.yml').read_text()
    assert 'core.ipynb' in text and '00_' not in text

def test_no_web_fonts(tmp_path):
    css = tmp_path/'theme.css'
    css.write_text('@import url(https://fonts.googleapis.com/css2?family=Lato:ital,wght@0,400;1,700);body{color:red}')
    assert (finish.drop_fonts(tmp_path), css.read_text()) == (1, 'body{color:red}')
    assert finish.drop_fonts(tmp_path) == 0

def test_formulas(tmp_path):
    pytest.importorskip('latex2mathml')
    assert finish.mathml('x').count('<mi>x</mi>') == 1
    assert 'display="block"' in finish.mathml(r'\frac{a}{b}', True) and '<mfrac>' in finish.mathml(r'\frac{a}{b}')
    assert '\\' not in finish.mathml(r'\text{let\_in}_t')
    f = tmp_path/'formula.html'
    script = f'<script src="{outputs.NPM}/katex@0.16.11/dist/katex.min.js" defer></script>'
    f.write_text(f'<head>{script}</head><p>if <span class="math inline">\\(a&lt;b\\)</span></p>')
    assert finish.draw_formulas(tmp_path) == 1
    assert f.read_text() == f'<head></head><p>if {finish.mathml("a<b")}</p>'
    assert finish.draw_formulas(tmp_path) == 0

def test_vendor(tmp_path):
    site, modules = tmp_path/'site', tmp_path/'node_modules'
    (site/'10_lessons').mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match='npm install mermaid'): finish.vendor(site, modules)
    for name in finish.VENDOR: (modules/name/'dist').mkdir(parents=True)
    (modules/'mermaid/dist/mermaid.esm.min.mjs').write_text('mermaid')
    (site/'10_lessons/a.html').write_text(f'<script src="{outputs.NPM}/mermaid@11.4.1/dist/mermaid.esm.min.mjs"></script>')
    finish.vendor(site, modules)
    assert (site/'10_lessons/a.html').read_text() == '<script src="./../site_libs/mermaid/mermaid.esm.min.mjs"></script>'
    assert (site/'site_libs/mermaid/mermaid.esm.min.mjs').exists()

def test_broken_links(tmp_path):
    (tmp_path/'a.html').write_text('<h2 id="vocab">Vocab</h2><a href="b.html">x</a><a href="#vocab">y</a><a href="https://example.org/z">z</a>')
    (tmp_path/'c.html').write_text('<a href="a.html#vocab">good</a><a href="a.html#vocabs">renamed</a><img src="no.png">')
    assert finish.broken(tmp_path) == ['a.html: b.html', 'c.html: a.html#vocabs', 'c.html: no.png']

def test_names_without_a_heading(tmp_path):
    (tmp_path/'a.html').write_text('<h2 id="vocab">Vocab</h2>')
    link = '<a href="a.html#{0}"><code>{0}</code></a>'
    (tmp_path/'c.html').write_text(' '.join(link.format(o) for o in ('vocab', 'vocab.save', '_chunks')))
    assert finish.mend_symbols(tmp_path) == 1
    want = '<a href="a.html#vocab"><code>vocab</code></a> <a href="a.html#vocab"><code>vocab.save</code></a> <code>_chunks</code>'
    assert (tmp_path/'c.html').read_text() == want
    assert finish.mend_symbols(tmp_path) == 0

def test_names_in_code_lead_to_their_definition(tmp_path):
    "Names in code are links: not in strings and comments, not as attributes or keyword arguments, private ones on their own page alone"
    (tmp_path/'p').mkdir()
    f = tmp_path/'p'/'a.html'
    code = '<span class="kw">class</span> x(Vocab): y.Vocab <span class="st">\'Vocab\'</span> f(Vocab<span class="op">=</span>1, Vocab=2, _mine, _yours)'
    f.write_text(f'Vocab <code class="sourceCode python">{code}</code>')
    symbols = {'Vocab': '01_text/vocab.html#vocab', '_mine': 'p/a.html#_mine', '_yours': 'q.html#_yours'}
    assert finish.link_code(tmp_path, symbols) == 1
    text = f.read_text()
    assert '(<a class="name" href="../01_text/vocab.html#vocab">Vocab</a>): y.Vocab' in text and "'Vocab'" in text and 'Vocab=2' in text
    assert '<a class="name" href="#_mine">_mine</a>, _yours' in text and text.startswith('Vocab <code')

def test_what_a_cell_defines():
    src = "@patch\ndef f(self:A|B, x=1): pass\n\n@patch(as_prop=True)\ndef g(self:A): pass\n\nclass C: pass\n\ndef _h(x:int): pass\nD = 1"
    assert pages.definitions(src) == ['A.f', 'B.f', 'A.g', 'C', '_h']
    assert [o for o in pages.definitions(src) if pages.is_public(o)] == ['A.f', 'B.f', 'A.g', 'C']
    assert pages.summary(src) == 'Source of A.f, B.f, A.g …'
    assert pages.summary('import re\nfrom a import b') == 'Imports'
    assert pages.summary('x = 3') == 'Source of x'

def test_entries():
    "Documentation of a function, a method and a private name"
    import textnb.base as base
    entry = pages.entry(base, 'esc')
    assert '#### esc {#esc}' in entry and '| parameter |' in entry and 'harmless' in entry
    assert '{#html_table}' in pages.entry(base, 'html_table') and r'html\_table' in pages.entry(base, 'html_table')
    assert pages.entry(base, '_nothing') == '```{=html}\n<a id="_nothing"></a>\n```'

def test_an_exported_cell_that_is_lost_is_named(tmp_path):
    import json
    nbs, site = tmp_path/'nbs', tmp_path/'site'
    nbs.mkdir()
    site.mkdir()
    cell = dict(cell_type='code', source=['#| export\n', 'def f(x):\n', '    return x<1'], outputs=[])
    hidden = dict(cell_type='code', source='#| hide\nassert f(0)', outputs=[])
    (nbs/'01_a.ipynb').write_text(json.dumps(dict(cells=[cell, hidden])))
    (site/'a.html').write_text('<code>def <a href="#f">f</a>(x):\n  return x&lt;1</code>')
    assert build.lost_code(nbs, site) == []
    (site/'a.html').write_text('<code>def f(x): ...</code>')
    assert build.lost_code(nbs, site) == ['cell 0 of 01_a.ipynb is not on its page']

def test_the_page_of_classes():
    symbols = {'Vocab': '01_text/vocab.html#vocab', 'Vocab.save': '01_text/vocab.html#vocab.save', 'Vocab._x': 'x.html#y', 'esc': '09_base/html.html#esc'}
    text = build.classes_page(symbols)['cells'][1]['source']
    want = '| [`Vocab`](01_text/vocab.html#vocab) | [`save`](01_text/vocab.html#vocab.save) | [vocab](01_text/vocab.html) |'
    assert text.split('\n')[2:] == [want]

def test_the_title_apart_from_the_introduction():
    assert pages.split_intro('# Core\n\n> Where files live\n\nEverything.') == ('# Core\n\n> Where files live', 'Everything.')
    assert pages.split_intro('# Core\n\n> Where\n> files live') == ('# Core\n\n> Where\n> files live', '')
    assert pages.split_intro('---\ntitle: x\n---') == ('---\ntitle: x\n---', '')

def test_as_if_tested():
    before = os.getcwd()
    with pages.as_if_tested('/'): inside = os.getcwd()
    assert (inside, os.getcwd()) == (os.path.abspath('/'), before)

def test_readme_of_an_output():
    assert readme.fence('x') == '```\nx\n```'
    assert readme.fence('```\ny\n```') == '````\n```\ny\n```\n````'
    files = {}
    o = dict(output_type='display_data', data={'image/png': 'aGVsbG8='}, metadata={'image/png': {'width': 320}})
    assert readme.output_markdown(o, 'i/ab12_0.png', files, alt='A figure') == '<img src="i/ab12_0.png" alt="A figure" width="320">'
    assert files == {'i/ab12_0.png': b'hello'}
    assert readme.output_markdown(dict(output_type='stream', text=['a\n', 'b\n']), '', {}) == '```\na\nb\n```'
    table = dict(output_type='execute_result', data={'text/html': '<style>x{}</style>\n<table></table>', 'text/plain': 't'})
    assert readme.output_markdown(table, '', {}) == '<table></table>'
    span = dict(output_type='execute_result', data={'text/html': '<span>x</span>', 'text/plain': 'x'})
    assert readme.output_markdown(span, '', {}) == '```\nx\n```'
    assert readme.output_markdown(dict(output_type='display_data', data={}), '', {}) is None

def test_readme_of_a_notebook():
    c = dict(cell_type='code', id='ab12', source='#| fig-alt: Sum\n1+1', outputs=[dict(output_type='execute_result', data={'text/plain': '2'})])
    assert readme.cell_markdown(c, Path('i'), '', {}) == '```python\n1+1\n```\n\n```\n2\n```'
    assert readme.cell_markdown({**c, 'source': '#| echo: false\n1+1'}, Path('i'), '', {}) == '```\n2\n```'
    link = dict(cell_type='markdown', source='[a](02_transform.ipynb#x)')
    assert readme.cell_markdown(link, Path('i'), 'https://textnb.org/', {}) == '[a](https://textnb.org/transform.html#x)'
    picture = dict(cell_type='markdown', source='![a panel](images/panel.png)')
    assert readme.cell_markdown(picture, Path('nbs/images'), '', {}) == '![a panel](nbs/images/panel.png)'
    raw = dict(cell_type='raw', source='---\ntitle: textnb\ndescription: Text models\n  in notebooks\n---')
    assert readme.readme_markdown(dict(cells=[raw, c]))[0] == '# textnb\n\n> Text models in notebooks\n\n```python\n1+1\n```\n\n```\n2\n```\n'

def test_only_what_changed_is_written(tmp_path):
    first = [o.name for o in readme.write_changed({'README.md': b'one', 'images/a.png': b'two'}, tmp_path)]
    second = [o.name for o in readme.write_changed({'README.md': b'ONE', 'images/a.png': b'two'}, tmp_path)]
    assert (first, second) == (['README.md', 'a.png'], ['README.md'])
