"Words that can be pressed, in a real browser: by mouse, by keyboard, and by menu where anywidget is missing"
import pytest
from panel_browser import serious
from playwright.sync_api import expect

XSS = '<img src=x onerror=window.pwned=1>'
SRC = '''
import sys
{first}
from textnb.base import set_seed
from textnb.text import TextClasDataBunch
from textnb.learn import text_classifier_learner
from textnb.models import AWD_LSTM
from textnb.panels import AttentionPanel
import pandas as pd
df = pd.DataFrame([(['neg', 'pos'][i%2], 'the film was a story of two people in one long night '+['awful', 'great'][i%2]) for i in range(24)], columns=['label', 'text'])
data = TextClasDataBunch.from_df({folder!r}, df[:16], df[16:], text_cols='text', label_cols='label', min_freq=1, bs=8)
set_seed(0)
learn = text_classifier_learner(data, AWD_LSTM, config=dict(emb_sz=8, n_hid=8, n_layers=1), pretrained=False, silent=True)
AttentionPanel(learn, {text!r})
'''
TEXT = f'two people, one awful night: {XSS} a great story of the film in one long night'

def see(open_panel, folder, first='', *args):
    page = open_panel(SRC.format(folder=str(folder), first=first, text=TEXT), *args)
    expect(page.locator('.tnb-text').first).to_contain_text('people')
    return page

def at(page): return page.evaluate('document.activeElement.dataset.pick')
def stops(page): return page.locator('.tnb-text [tabindex="0"]').count()

@pytest.fixture(autouse=True)
def extra(): pytest.importorskip('anywidget')

def test_keyboard_alone(open_panel, tmp_path):
    "E5: one stop for the Tab key, arrows inside it, Enter chooses and takes back, Escape takes back; the place is kept when the words are drawn anew"
    page = see(open_panel, tmp_path, '', 'light', 420)
    words = page.get_by_role('listbox', name='Words of the text').get_by_role('option')
    expect(words.first).to_have_attribute('aria-label', page.evaluate('(o => `${o.textContent}, ${o.title}`)(document.querySelector(".tnb-text [data-pick]"))'))
    assert stops(page)==1 and serious(page)==[]
    page.get_by_role('button', name='Files').focus()
    for _ in range(6):
        page.keyboard.press('Tab')
        if at(page) is not None: break
    first = at(page)
    for key,n in ('ArrowRight', 1), ('ArrowRight', 2), ('ArrowLeft', 1), ('Home', 0), ('ArrowLeft', 0), ('End', words.count()-1), ('ArrowRight', words.count()-1), ('Home', 0):
        page.keyboard.press(key)
        assert at(page)==words.nth(n).get_attribute('data-pick'), key
        assert stops(page)==1
    assert at(page)==first
    line = lambda: page.evaluate('document.activeElement.getClientRects()[0].top')
    top,middle = line(),page.evaluate('(b => b.left+b.width/2)(document.activeElement.getClientRects()[0])')
    page.keyboard.press('ArrowDown')
    assert line()>top and page.evaluate(f'Math.abs((b => b.left+b.width/2)(document.activeElement.getClientRects()[0])-{middle})')<80
    page.keyboard.press('ArrowUp')
    assert line()==top
    page.keyboard.press('ArrowRight')
    here = at(page)
    page.keyboard.press('Enter')
    expect(page.get_by_text('Without it')).to_be_visible()
    expect(page.locator('.tnb-text [aria-selected=true]')).to_have_attribute('data-pick', here)
    expect(page.get_by_role('status')).to_contain_text(f'without {page.locator(".tnb-on[data-pick]").inner_text()}')
    assert at(page)==here and page.get_by_label('Without', exact=True).evaluate('o => o.selectedOptions[0].text').split()[0]==f'{int(here)+1}'
    assert serious(page)==[]
    page.keyboard.press('ArrowRight')
    page.keyboard.press('Space')
    expect(page.locator('.tnb-text [aria-selected=true]')).not_to_have_attribute('data-pick', here)
    page.keyboard.press('Space')
    expect(page.get_by_text('Without it')).to_have_count(0)
    page.keyboard.press('Enter')
    expect(page.get_by_text('Without it')).to_be_visible()
    page.keyboard.press('Escape')
    expect(page.get_by_text('Without it')).to_have_count(0)
    assert at(page) is not None and page.evaluate('window.pwned') is None

def test_mouse_and_typing(open_panel, tmp_path):
    "A press chooses; typing takes the choice away, and the keyboard stays in the box to type in"
    page = see(open_panel, tmp_path)
    page.get_by_role('option', name='awful, ').click()
    expect(page.locator('.tnb-bars').last).to_contain_text('without awful')
    page.get_by_role('option', name='great, ').click()
    expect(page.locator('.tnb-text .tnb-on')).to_have_text('great')
    page.get_by_role('option', name='great, ').click()
    expect(page.locator('.tnb-text .tnb-on')).to_have_count(0)
    page.get_by_role('option', name='great, ').click()
    box = page.locator('textarea')
    box.click()
    page.keyboard.type('ab', delay=200)
    expect(page.locator('.tnb-text .tnb-on')).to_have_count(0)
    assert box.evaluate('o => o===document.activeElement') and page.evaluate('window.pwned') is None
    box.fill('')
    expect(page.locator('[role=option]')).to_have_count(0)

def test_menu_without_the_extra(open_panel, tmp_path):
    "E1: where anywidget is missing, the words are text, and the menu does the same"
    page = see(open_panel, tmp_path, 'sys.modules["anywidget"] = None')
    page.get_by_label('Without', exact=True).select_option(index=2)
    expect(page.get_by_text('Without it')).to_be_visible()
    expect(page.locator('.tnb-text .tnb-on')).to_have_count(1)
    assert page.get_by_role('option', name='awful, ').count()==0 and page.locator('.tnb-text[role]').count()==0
    assert serious(page)==[]
