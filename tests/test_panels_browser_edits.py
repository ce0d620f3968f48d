"The edit panel in a real browser: choose a word, take a proposal, undo, with mouse and keyboard"
import re

import pandas as pd
import pytest
from panel_browser import serious
from playwright.sync_api import expect

from textnb.base import set_seed
from textnb.text import TextClasDataBunch, TextLMDataBunch
from textnb.explain import propose
from textnb.learn import language_model_learner, load_learner, text_classifier_learner
from textnb.models import AWD_LSTM

pytest.importorskip('voila')
XSS = '<img src=x onerror=window.pwned=1>'
TEXT = f'The film was great, a film for one long night {XSS}'
SRC = '''from textnb.learn import load_learner
from textnb.panels import EditPanel
class Fragile(EditPanel):
    def work(self, state):
        if 'boom' in state['text']: raise RuntimeError('a <b>boom</b>')
        yield from super().work(state)
Fragile(load_learner({model!r}, silent=True), {text!r}, {lm!r}, class_id={cls!r}, k=5)'''

@pytest.fixture(scope='module')
def models(tmp_path_factory):
    "The files of a classifier for which one word decides, with a class that is called like an attack, and of a language model that writes such texts"
    d = tmp_path_factory.mktemp('edits')
    rows = [(['neg', XSS][i%2], f"the {w} was {['awful', 'great'][i%2]}, a {v} for one long night") for i in range(60) for w,v in [(['film', 'story'][i//2%2], ['night', 'people'][i//4%2])]]
    df = pd.DataFrame(rows, columns=['label', 'text'])
    set_seed(1)
    data = TextLMDataBunch.from_df(d, df, df[:8], text_cols='text', bs=8, bptt=12, min_freq=1)
    lm = language_model_learner(data, AWD_LSTM, config=dict(emb_sz=16, n_hid=24, n_layers=1), drop_mult=0., pretrained=False, silent=True)
    lm.fit_one_cycle(8, 3e-2)
    data = TextClasDataBunch.from_df(d, df[:50], df[50:], text_cols='text', label_cols='label', vocab=data.vocab, bs=8, seed=0)
    learn = text_classifier_learner(data, AWD_LSTM, config=dict(emb_sz=16, n_hid=24, n_layers=1), drop_mult=.1, pretrained=False, silent=True)
    learn.fit_one_cycle(5, 3e-2)
    return dict(model=str(learn.export('clas.tnb')), lm=str(lm.export('lm.tnb')), cls=XSS)

def words(page): return page.locator('.tnb-words button')
def rows(page): return page.locator('[aria-label=Proposals] tbody tr')
def press(page, name): page.get_by_role('button', name=name, exact=True).click()
def fits(page): return page.evaluate('document.documentElement.scrollWidth<=innerWidth && [...document.querySelectorAll(".tnb-panel, .tnb-panel .widget-html")].every(o => o.scrollWidth<=o.clientWidth+1)')

def shown(page):
    "The rows as text: the word, the change, and the class after it"
    return [(o.locator('th').inner_text(), o.locator('td').nth(3).inner_text(), o.locator('td').last.inner_text()) for o in rows(page).all()]

def wanted(models, text, where, how):
    "The same from Python"
    edits = propose(load_learner(models['model']), text, where, how, models['lm'], 5, XSS)
    return [({'': '(deleted)', 'xxunk': '(masked)'}.get(o.new, o.new)+' (unknown)'*(not o.known and o.new!='xxunk'), f'{o.delta:+.3f}', o.pred) for o in edits]

def test_choose_take_undo(open_panel, models):
    "C8, E2, E7, E8: choose a word, see what the language model proposes, take one, go on with HotFlip, undo to the first text; an error is seen, and goes"
    page = open_panel(SRC.format(text=TEXT, **models))
    box,mark,status = page.locator('textarea').first,page.locator('mark'),page.locator('.tnb-panel p[role=status]')
    expect(words(page).first).to_have_text('The')
    words(page).nth(3).click()
    expect(mark).to_have_text('great')
    expect(rows(page)).to_have_count(5)
    assert shown(page)==wanted(models, TEXT, 3, 'lm')
    assert 'awful' in [w for w,*_ in shown(page)]
    page.get_by_label('Instead').select_option(label=page.get_by_label('Instead').locator('option', has_text='awful').inner_text())
    expect(rows(page).filter(has=page.locator('th.tnb-on'))).to_contain_text('awful')
    press(page, 'Take it')
    second = TEXT.replace('great', 'awful')
    expect(box).to_have_value(second)
    expect(page.locator('caption')).to_have_text(f'Probability of {XSS} after each edit')
    words(page).nth(6).click()
    expect(words(page).nth(6)).to_have_class(re.compile('mod-active'))
    expect(words(page).nth(1)).not_to_have_class(re.compile('mod-active'))
    expect(mark).to_have_text('film')
    page.get_by_label('Adviser').select_option('HotFlip: more of the class')
    expect(page.get_by_text('estimate: what the gradient expects')).to_be_visible()
    page.get_by_label('Adviser').select_option('delete or mask')
    expect(rows(page)).to_have_count(2)
    press(page, 'Take it')
    expect(box).to_have_value(second.replace('a film for', 'a for'))
    expect(status).to_contain_text('step 2 of 2')
    assert serious(page)==[]
    press(page, 'Undo')
    expect(box).to_have_value(second)
    press(page, 'Undo')
    expect(box).to_have_value(TEXT)
    expect(status).to_contain_text('step 0 of 2')
    press(page, 'Redo')
    expect(box).to_have_value(second)
    box.fill('boom')
    expect(page.get_by_role('alert')).to_contain_text('a <b>boom</b>')
    press(page, 'Undo')
    expect(box).to_have_value(second)
    expect(page.get_by_role('alert')).to_have_count(0)
    assert page.locator('.tnb-panel img').count()==0 and page.evaluate('window.pwned') is None

def test_keyboard_and_long_text(open_panel, models):
    "E5, E9: a word is chosen and a proposal taken without a mouse; of a long text 40 words are shown, and the others are a button away"
    page = open_panel(SRC.format(text=' '.join(f'{i} films' for i in range(1, 60)), **models))
    expect(words(page)).to_have_count(40)
    words(page).nth(1).focus()
    page.keyboard.press('Tab')
    page.keyboard.press('Tab')
    page.keyboard.press('Enter')
    expect(words(page).nth(3)).to_have_class(re.compile('mod-active'))
    press(page, 'Words after ›')
    expect(words(page).first).to_have_text('21')
    page.get_by_label('Adviser').select_option('delete or mask')
    expect(rows(page)).to_have_count(2)
    page.get_by_role('button', name='Take it').focus()
    page.keyboard.press('Enter')
    expect(words(page).first).to_have_text('films')
    page.keyboard.press('Tab')
    page.keyboard.press('Enter')
    expect(words(page).first).to_have_text('21')

def test_looks(open_panel, models):
    "E3: in the dark, on a narrow page and on a wide one, everything can be read and nothing sticks out"
    page = open_panel(SRC.format(text=TEXT, **models), 'dark', 420)
    words(page).nth(3).click()
    expect(page.locator('mark')).to_have_text('great')
    press(page, 'Take it')
    expect(page.locator('caption')).to_be_visible()
    assert fits(page) and serious(page)==[]
    page.set_viewport_size(dict(width=1100, height=900))
    assert fits(page) and serious(page)==[]
