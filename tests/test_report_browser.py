"The report of one's own data in a browser: light, dark, on a phone; nothing is fetched, nothing sticks out, everything can be read"
import numpy as np
import pytest

from panel_browser import serious
from textnb.command import Guesses, answered, class_figures, data_report

SCORES = [0, .02, .41, .08, 0, -.6]
TEXT = dict(tokens='xxbos a wonderful cast , wasted'.split(), signed=SCORES, attention=[abs(s) for s in SCORES], pred='film', actual='music', prob=.83)

def results(n_classes):
    "A page with everything that it can show"
    rng = np.random.default_rng(0)
    names = [f'a_class_with_a_long_name_{i}' for i in range(n_classes)]
    true = rng.integers(0, n_classes, 300)
    guess = np.where(rng.random(300)<.7, true, rng.integers(0, n_classes, 300))
    g = Guesses()
    g.add(rng.dirichlet([1]*n_classes, 300)*.4+.6*np.eye(n_classes)[guess], true)
    epochs = [dict(epoch=i, train_loss=5.-i, valid_loss=4.8-i, accuracy=.5) for i in range(3)]
    curve = dict(train=[(i/10, 3-i/10) for i in range(20)], valid=[(1,2.5),(2,2.)], epochs=epochs)
    base = dict(name='TF-IDF + logistic regression', accuracy=.7, only_ours=9, only_its=2, chance=.03)
    return dict(title='a rather long name of a table.csv', about=['A sentence about it. '*5], classes=names, metrics=class_figures(g, names), baseline=[base, base],
        unsure=answered(g, .7), temperature=1.7, lm=curve, clas=curve, texts=[TEXT, TEXT], top_losses=[dict(text='a text '*40, pred=names[0], actual=names[1], loss=3.2, prob=.04)],
        tables={'Folds': (['fold','accuracy'], [[1, .8], [2, .9]])}, settings=dict(model='/a/long/path/without/a/blank/'*4), seconds=dict(train=200.), shared=0)

@pytest.mark.parametrize('n_classes', [2, 40])
@pytest.mark.parametrize('width,scheme', [(1000, 'light'), (1000, 'dark'), (390, 'light'), (390, 'dark')])
def test_the_report_can_be_read(page, tmp_path, n_classes, width, scheme):
    (tmp_path/'r.html').write_text(data_report(results(n_classes)), encoding='utf-8')
    asked, said = [], []
    page.on('request', lambda o: asked.append(o.url))
    page.on('console', lambda o: said.append(o.text))
    page.set_viewport_size(dict(width=width, height=800))
    page.emulate_media(color_scheme=scheme)
    page.goto((tmp_path/'r.html').as_uri())
    assert asked==[(tmp_path/'r.html').as_uri()] and not said
    assert page.evaluate('document.documentElement.scrollWidth')<=width
    assert page.locator('svg').count()==3 and page.locator('svg .bar').count()>=2
    assert page.evaluate('''[...document.querySelectorAll('svg text')].every(o => {
        const a = o.getBoundingClientRect(), b = o.closest('svg').getBoundingClientRect()
        return a.left>=b.left-1 && a.right<=b.right+1 && a.top>=b.top-1 && a.bottom<=b.bottom+1 })''')
    assert serious(page, 'body')==[]
