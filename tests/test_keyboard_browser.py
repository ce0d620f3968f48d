"The panels of a classifier by keyboard alone: no test here moves a mouse or puts the focus anywhere but by the Tab key"
import pytest
from playwright.sync_api import expect
from test_panels_browser_tables import DATA, DESK, TABLE, cells, src

BENCH = DATA+'''
from textnb.panels import MethodBench
MethodBench(learn, 'a great film', methods=['lrp'])
'''

def go(page, to, back=False):
    "Press Tab until `to` has the focus"
    for _ in range(120):
        if to.count() and to.first.evaluate('o => o===document.activeElement'): return
        page.keyboard.press('Shift+Tab' if back else 'Tab')
    pytest.fail(f'the Tab key does not reach {to}')

def keys(page, *names):
    for o in names: page.keyboard.press(o)

def named(page, text): return page.get_by_role('button', name=text)
def labelled(page, text): return page.get_by_label(text, exact=True)

def test_bench(open_panel, tmp_path):
    "C4: type a text, choose methods, sort, show the numbers, download"
    page = open_panel(src(BENCH, tmp_path))
    texts = page.locator('.tnb-panel .tnb-text')
    expect(texts).to_have_count(1)
    go(page, page.locator('textarea'))
    keys(page, 'Control+a')
    page.keyboard.type('one awful night')
    expect(texts.first).to_have_text('one awful night')
    go(page, page.locator('select[multiple]'))
    keys(page, 'Home', 'Shift+ArrowDown', 'Shift+ArrowDown')
    expect(texts).to_have_count(3)
    go(page, labelled(page, 'Sort by'))
    keys(page, 'ArrowDown')
    page.wait_for_function('() => { const v = [...document.querySelectorAll(".tnb-chip")].filter(o => o.innerText.startsWith("comprehensiveness")).map(o => +o.querySelector("b").innerText.split(" ")[0]); return v.length==3 && v.every((x, i) => !i || x<=v[i-1]) }')
    go(page, labelled(page, 'Numbers as tables'))
    keys(page, 'Space')
    expect(page.get_by_text('Scores of each piece')).to_be_visible()
    go(page, named(page, 'Files'))
    keys(page, 'Enter')
    go(page, page.get_by_role('link', name='methods.csv'))
    with page.expect_download() as d: keys(page, 'Enter')
    assert d.value.suggested_filename=='methods.csv'

def test_table(open_panel, tmp_path):
    "C2, C3, C7: find, order, turn the page, open a row and the next, press a cell of the matrix, clear"
    page = open_panel(src(TABLE, tmp_path))
    caption = page.locator('.tnb-panel p.tnb-note', has_text='page ')
    expect(caption).to_contain_text('of 57')
    go(page, labelled(page, 'Find'))
    page.keyboard.type('night')
    expect(page.locator('mark').first).to_have_text('night')
    go(page, labelled(page, 'Order'))
    keys(page, 'ArrowDown')
    page.wait_for_function('() => { const v = [...document.querySelectorAll(".tnb-rows tbody td:nth-child(4)")].map(o => +o.innerText); return v.length>1 && v.every((x, i) => !i || x>=v[i-1]) }')
    go(page, named(page, 'Next ›'))
    keys(page, 'Enter')
    expect(caption).to_contain_text('page 2 of')
    go(page, page.locator('button', has_text='▸'))
    keys(page, 'Enter')
    row = page.locator('section[aria-label^="Row"]')
    expect(row).to_be_visible()
    first = row.get_attribute('aria-label')
    go(page, named(page, '↓ Open next'), back=True)
    keys(page, 'Enter')
    expect(row).not_to_have_attribute('aria-label', first)
    go(page, named(page, 'Clear filters'))
    keys(page, 'Enter')
    expect(caption).to_contain_text('of 57')
    cell = page.locator('button[title*="predicted neg"]').first
    go(page, cell)
    keys(page, 'Enter')
    expect(caption).to_contain_text(f'of {cell.inner_text()},')

def test_desk(open_panel, tmp_path):
    "C5: open a row, relabel, drop, write a note, undo, redo"
    page = open_panel(src(DESK, tmp_path))
    status = page.locator('.tnb-panel p[role=status]')
    expect(page.locator('.tnb-rows tbody tr')).to_have_count(5)
    go(page, page.locator('button', has_text='▸'))
    keys(page, 'Space')
    expect(page.locator('section[aria-label^="Row"]')).to_be_visible()
    go(page, page.locator('button[title="label the open row neg"]'))
    keys(page, 'Enter')
    expect(status).to_contain_text('1 to undo')
    go(page, labelled(page, 'Note'))
    page.keyboard.type('odd')
    keys(page, 'Enter')
    expect(status).to_contain_text('2 to undo')
    go(page, named(page, 'Drop'), back=True)
    keys(page, 'Enter')
    expect(status).to_contain_text('3 to undo, 0 to redo')
    go(page, named(page, '↶ Undo'))
    keys(page, 'Enter', 'Enter')
    expect(status).to_contain_text('1 to undo, 2 to redo')
    go(page, named(page, '↷ Redo'))
    keys(page, 'Enter')
    expect(status).to_contain_text('2 to undo, 1 to redo')
    go(page, labelled(page, 'Show'), back=True)
    page.keyboard.type('decided')
    expect(page.locator('.tnb-rows tbody tr')).to_have_count(2)
    assert any('odd' in o for o in cells(page, 5))
