"The table of top losses and the cleaning desk in a real browser: sort, filter, page, click, relabel, undo, restart"
import json

import pandas as pd
import pytest
from panel_browser import serious
from playwright.sync_api import expect

from textnb.panels import apply_edits

XSS = '<img src=x onerror=window.pwned=1>'
DATA = '''
import numpy as np, pandas as pd, torch
from IPython.display import display
from textnb.base import DatasetType, set_seed
from textnb.text import TextClasDataBunch
from textnb.explain import TextClassificationInterpretation
from textnb.learn import text_classifier_learner
from textnb.panels import CleaningDesk, TopLossPanel
from textnb.models import AWD_LSTM
from textnb.panels import CleaningDesk, TopLossPanel
r = np.random.default_rng(0)
words = 'the film was a story of two people in one long night great awful'.split()
df = pd.DataFrame([(['neg', {xss!r}][i%2], ' '.join(r.choice(words, r.integers(3, 30)))+f' {{i}} {xss}') for i in range(57)], columns=['label', 'text'])
data = TextClasDataBunch.from_df({folder!r}, df[:20], df, text_cols='text', label_cols='label', min_freq=1, bs=16)
set_seed(0)
learn = text_classifier_learner(data, AWD_LSTM, config=dict(emb_sz=8, n_hid=8, n_layers=1), pretrained=False, silent=True)
interp = TextClassificationInterpretation.from_preds(learn, r.dirichlet([1, 1], 57).astype('float32'), DatasetType.Valid)
'''
TABLE = DATA+'''
class Fragile(TopLossPanel):
    def work(self, state):
        if 'boom' in state['text']: raise RuntimeError('a <b>boom</b>')
        yield from super().work(state)
Fragile(interp, size=5)
'''
DESK = DATA+'''
df.to_csv({folder!r}+'/df.csv', index=False)
CleaningDesk(interp, {folder!r}+'/j.jsonl', size=5)
'''

def src(s, folder): return s.format(folder=str(folder), xss=XSS)

def cells(page, col): return [o.inner_text() for o in page.locator(f'.tnb-rows tbody tr td:nth-child({col})').all()]

def pick(page, label, option): page.get_by_label(label, exact=True).select_option(option)

def press(page, name): page.get_by_role('button', name=name).first.click()

MIDDLES = '''() => { const mid = o => { const b = o.getBoundingClientRect(); return b.top+b.height/2 }
  const all = (s, f) => [...document.querySelectorAll(s)].filter(f).map(mid)
  return [all('.tnb-rows tbody tr', () => true), all('button', o => /[▸▾]/.test(o.textContent))] }'''

def aligned(page):
    "How far the buttons of the rows are from their rows, in pixels, at one moment in which an opened row is complete"
    expect(page.locator('.tnb-panel')).not_to_contain_text('reading the training texts')
    rows,buttons = page.evaluate(MIDDLES)
    return max(min(abs(a-b) for a in rows) for b in buttons), len(rows)==len(buttons)

def test_table(open_panel, tmp_path):
    "C2, C3, C7, E2, E5, E7, E8: sort, filter, turn pages, open a row, press a cell of the matrix, see an error; nothing serious in axe-core"
    page = open_panel(src(TABLE, tmp_path))
    caption = page.locator('.tnb-panel p.tnb-note', has_text='page ')
    expect(caption).to_have_text('Rows 1 to 5 of 57, page 1 of 12')
    loss = [float(o) for o in cells(page, 4)]
    assert loss==sorted(loss, reverse=True)
    off,all_there = aligned(page)
    assert off<6 and all_there
    pick(page, 'Order', 'lowest first')
    expect(page.locator('.tnb-rows tbody td').nth(3)).not_to_have_text(f'{loss[0]:.2f}')
    assert [float(o) for o in cells(page, 4)]==sorted(float(o) for o in cells(page, 4))
    press(page, 'Next ›')
    expect(caption).to_contain_text('page 2 of 12')
    press(page, 'Last »')
    expect(caption).to_have_text('Rows 56 to 57 of 57, page 12 of 12')
    page.get_by_label('Find').fill('night')
    expect(caption).to_contain_text('page 1 of')
    expect(page.locator('mark').first).to_have_text('night')
    assert all('night' in o.lower() for o in cells(page, 1)) and not page.evaluate('window.pwned')
    press(page, 'Clear filters')
    expect(caption).to_contain_text('of 57')
    page.locator('button', has_text='▸').nth(2).focus()
    page.keyboard.press('Enter')
    opened = page.locator('button', has_text='▾')
    expect(opened).to_have_count(1)
    number = opened.inner_text().split()[1]
    expect(page.get_by_role('region', name=f'Row {number}', exact=True)).to_be_visible()
    expect(page.get_by_text('Nearest training texts')).to_be_visible()
    assert page.locator('section img').count()==0 and serious(page)==[]
    press(page, '↓ Open next')
    expect(page.get_by_role('region', name=f'Row {number}', exact=True)).to_have_count(0)
    n = page.locator('button[title*="predicted neg"]').first
    n.click()
    expect(caption).to_contain_text(f'of {n.inner_text()},')
    assert set(cells(page, 3))=={'neg'} and set(cells(page, 2))=={XSS}
    page.get_by_label('Find').fill('boom')
    expect(page.get_by_role('alert')).to_contain_text('a <b>boom</b>')
    press(page, 'Clear filters')
    expect(caption).to_contain_text('of 57')

def test_desk(open_panel, tmp_path):
    "C5, E2, E5, E7, E12: relabel, drop, note, undo and redo by pressing; a second page goes on from the journal; the source stays"
    page = open_panel(src(DESK, tmp_path))
    before = (tmp_path/'df.csv').read_bytes()
    status = page.locator('.tnb-panel p[role=status]')
    page.locator('button', has_text='▸').first.click()
    expect(page.locator('section[aria-label^="Row"]')).to_be_visible()
    first = int(page.locator('button', has_text='▾').inner_text().split()[1])
    was = cells(page, 2)[0]
    new = XSS if was=='neg' else 'neg'
    press(page, new)
    expect(status).to_contain_text('1 decided, 1 to undo')
    assert f'{was} → {new}' in cells(page, 2)[0]
    second = int(page.locator('button', has_text='▾').inner_text().split()[1])
    note = page.get_by_label('Note')
    note.fill(f'odd {XSS}')
    note.press('Enter')
    expect(status).to_contain_text('2 decided')
    press(page, 'Drop')
    expect(status).to_contain_text('2 decided, 3 to undo')
    press(page, '↶ Undo')
    expect(status).to_contain_text('2 to undo, 1 to redo')
    press(page, '↷ Redo')
    expect(status).to_contain_text('3 to undo, 0 to redo')
    pick(page, 'Label', 'neg')
    pick(page, 'Show', 'decided')
    pick(page, 'Label', 'any')
    expect(page.locator('.tnb-rows tbody tr')).to_have_count(2)
    assert serious(page)==[] and not page.evaluate('window.pwned')
    page = open_panel(src(DESK, tmp_path))
    expect(page.locator('.tnb-panel p[role=status]')).to_contain_text('2 decided, 3 to undo')
    press(page, '↶ Undo')
    expect(page.locator('.tnb-panel p[role=status]')).to_contain_text('2 to undo, 1 to redo')
    kinds = [json.loads(o).get('do') for o in (tmp_path/'j.jsonl').read_text().splitlines()]
    assert kinds==[None, 'edit', 'edit', 'edit', 'undo', 'redo', 'undo'] and (tmp_path/'df.csv').read_bytes()==before
    clean = apply_edits(pd.read_csv(tmp_path/'df.csv'), tmp_path/'j.jsonl', note_col='note')
    assert len(clean)==57 and clean.label[first]==new and clean.note[second]==f'odd {XSS}'

@pytest.mark.parametrize('scheme,width', [('dark', 1100), ('light', 420)])
def test_looks(open_panel, tmp_path, scheme, width):
    "E3: in the dark and on a narrow page nothing sticks out, and axe-core finds nothing serious"
    page = open_panel(src(DESK, tmp_path), scheme, width)
    page.locator('button', has_text='▸').first.click()
    expect(page.locator('section[aria-label^="Row"]')).to_contain_text('Nearest training texts')
    assert aligned(page)[0]<6
    assert page.evaluate('document.documentElement.scrollWidth<=innerWidth') and serious(page)==[]
