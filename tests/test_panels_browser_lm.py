"The panels of language models in a real browser: type, slide, draw, branch, undo"
import re

import pytest

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

def source(model, text): return f'''from textnb.learner import load_learner
from textnb.panels.writing import WritingPanel
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
