"The panels of language models in a real browser: type, slide, draw, branch, undo"
import re

import pytest
from panel_browser import serious

from textnb.all import *

pytest.importorskip('voila')
from playwright.sync_api import expect

@pytest.fixture(scope='module')
def model(tmp_path_factory):
    "The file of a small language model that has read numbers in words"
    path = tmp_path_factory.mktemp('lm')
    set_seed(0)
    nums = human_numbers().text[:1000].tolist()
    df = pd.DataFrame(dict(text=[' '.join(nums[i:i+50]) for i in range(0, 1000, 50)]))
    data = TextLMDataBunch.from_df(path, df, df[:4], text_cols='text', min_freq=1, bs=8, bptt=30)
    learn = language_model_learner(data, AWD_LSTM, config=dict(emb_sz=24, n_hid=32, n_layers=1), drop_mult=0., pretrained=False, silent=True)
    learn.fit_one_cycle(2, 2e-2)
    return learn.export()

def source(model, text): return f'''from textnb.learn import load_learner
from textnb.panels import WritingPanel
WritingPanel(load_learner({str(model)!r}, silent=True), {text!r}, seed=1)'''

def test_writing_panel(model, open_panel):
    "D1, D2, D8: typing changes bars and surprisal, a slider the bars alone, a drawn word is written, and all of it is undone"
    page = open_panel(source(model, 'two hundred'), width=1100)
    body,box = page.locator('.tnb[data-seq]'),page.locator('textarea').first
    expect(body.locator('.tnb-bars').first).to_be_visible()
    first = body.locator('.tnb-bars tbody tr').first.inner_text()
    box.fill('two hundred one <b>')
    expect(body.locator('.tnb-text')).to_contain_text('one')
    assert page.locator('.tnb-text b').count()==0
    page.get_by_role('button', name='Draw a word').click()
    expect(box).to_have_value(re.compile('two hundred one <b> .+'))
    page.get_by_role('button', name='Undo').click()
    expect(box).to_have_value('two hundred one <b>')
    place = page.get_by_label('Place')
    expect(place.locator('option', has_text='hundred')).to_have_count(1)
    place.select_option(label=place.locator('option', has_text='hundred').inner_text())
    page.get_by_role('button', name='Branch there').click()
    expect(box).to_have_value('two')
    page.get_by_label('Table').check()
    expect(body.locator('caption')).to_have_text('Each token')
    assert first

def test_dark_and_narrow(model, open_panel):
    "The same page in the dark, on a telephone: nothing is wider than the screen"
    page = open_panel(source(model, 'three hundred forty two'), 'dark', 420)
    expect(page.locator('.tnb-text span').first).to_be_visible()
    assert page.evaluate('document.documentElement.scrollWidth')<=420

def lm(model, cls, module, *args): return f'''from textnb.learn import load_learner
from textnb.panels.{module} import {cls}
{cls}(load_learner({str(model)!r}, silent=True), {', '.join(map(repr, args))})'''

def test_beam_panel(model, open_panel):
    "D3: the tree is drawn up to a level, with what was pruned and why, and follows the prompt"
    page = open_panel(lm(model, 'BeamPanel', 'beams', 'two hundred'))
    boxes = page.locator('.tnb svg rect')
    expect(boxes.first).to_be_visible()
    n = boxes.count()
    page.get_by_label('Show pruned words').uncheck()
    expect(boxes).not_to_have_count(n)
    page.locator('textarea').fill('three <i>hundred')
    expect(page.locator('.tnb table td').nth(1)).to_contain_text('three <i>hundred')
    page.get_by_label('Every word as a table').check()
    expect(page.locator('caption').last).to_have_text('Every word that was looked at')

def test_unit_panel(model, open_panel):
    "D4: a pattern finds units, and a pattern that is none is an error that can be read"
    page = open_panel(lm(model, 'UnitPanel', 'units', 'two hundred one two hundred two', 'hundred'))
    expect(page.locator('caption')).to_contain_text('hundred')
    row = page.locator('.tnb tbody tr').first.locator('td')
    page.get_by_role('button', name='Best unit').click()
    expect(page.get_by_label('Unit', exact=True)).to_have_value(row.nth(1).inner_text())
    page.get_by_label('Look for').fill('(')
    expect(page.get_by_role('alert')).to_contain_text('no regular expression')

@pytest.fixture(scope='module')
def xl(tmp_path_factory):
    "The file of a Transformer-XL that has learned nothing"
    path = tmp_path_factory.mktemp('xl')
    df = pd.DataFrame(dict(text=['one two three four five six seven eight nine ten']*8))
    data = TextLMDataBunch.from_df(path, df, df[:2], text_cols='text', min_freq=1, bs=4, bptt=10)
    config = dict(d_model=16, n_heads=4, d_head=8, d_inner=16, n_layers=2, ctx_len=12, mem_len=6)
    return language_model_learner(data, TransformerXL, config=config, pretrained=False, silent=True).export()

def test_heads_panel(xl, open_panel):
    "D5, D6: a picture for each head, the row of one word, memory and segment apart; the caption says what weights are not"
    page = open_panel(lm(xl, 'HeadsPanel', 'heads', 'one two three four five six seven eight', 3))
    expect(page.locator('.tnb figure')).to_have_count(4)
    expect(page.locator('.tnb')).to_contain_text(['Weights, not explanations'])
    expect(page.locator('.tnb-chip').first).to_contain_text('to the memory')
    page.get_by_label('Head').select_option('rollout')
    expect(page.get_by_role('alert')).to_contain_text('set the memory to 0')
    page.get_by_label('Head').select_option('all heads')
    expect(page.locator('.tnb h4').last).to_contain_text('all heads')

SLIDERS = 'Temperature; Top-k; Top-p; Min-p; Words; Beams; Top-k; Groups; Level; Pruned; Penalty; Or words, from; Or words, to; Memory'.split('; ')

def together(*sources): return 'from IPython.display import display\n'+'\n'.join('{}\ndisplay({})'.format(*o.rpartition('\n')[::2]) for o in sources)

@pytest.mark.parametrize('scheme,width', [('light', 1100), ('dark', 420)])
def test_sliders_have_names(model, xl, open_panel, scheme, width):
    "E3, E5: with the extra `ui` each handle says what it sets, also when its slider has changed; axe-core finds nothing serious in four panels"
    pytest.importorskip('anywidget')
    text = 'two hundred one two hundred two'
    src = together(source(model, text), lm(model, 'BeamPanel', 'beams', 'two hundred'), lm(model, 'UnitPanel', 'units', text, 'hundred'), lm(xl, 'HeadsPanel', 'heads', 'one two three four five', 3))
    page = open_panel(src, scheme, width, 4)
    handles = page.locator('[role=slider][aria-label]')
    expect(page.locator('.tnb[data-seq]')).to_have_count(4)
    expect(handles).to_have_count(len(SLIDERS))
    assert [o.get_attribute('aria-label') for o in handles.all()]==SLIDERS and page.locator('[role=slider]').count()==len(SLIDERS)
    assert serious(page)==[]
    units = page.locator('.tnb-panel').nth(2)
    units.locator('textarea').fill('two hundred')
    last = units.get_by_role('slider', name='Or words, to')
    expect(last).to_have_attribute('aria-valuemax', '2.0')
    last.focus()
    page.keyboard.press('ArrowRight')
    expect(last).to_have_attribute('aria-valuenow', '1.0')
    for box in page.locator('.tnb-panel input[type=checkbox]').all(): box.check()
    expect(page.locator('caption', has_text='Every word that was looked at')).to_be_visible()
    assert serious(page)==[] and page.evaluate('document.documentElement.scrollWidth<=innerWidth && [...document.querySelectorAll(".tnb-panel, .tnb-panel .widget-html")].every(o => o.scrollWidth<=o.clientWidth+1)')
