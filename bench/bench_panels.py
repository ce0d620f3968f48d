"""From a key press to the new shading: milliseconds in a real browser (Voila and Chromium), for the attention panel with LRP.

    OMP_NUM_THREADS=1 python bench/bench_panels.py

`small` is the configuration that `textnb train` uses, `full` the published 400/1152/3, both with 50 tokens, untrained. A key is pressed at the end of the text every half second; the clock in the page runs from the event of the key
to the change of the drawing. `key_ms` is the median, `key_p95_ms` the 95th percentile of 40 keys; `kernel_ms` is what the kernel says it needed for the last one."""
import json
import os
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOALS = [('panels', 'small', 'key_ms', -100, 'from key press to new shading, small configuration, 50 tokens: under 100 ms'),
    ('panels', 'full', 'key_ms', -300, 'from key press to new shading, 400/1152/3, 50 tokens: under 300 ms')]
KEYS = 40
CLOCK = '''() => { window.times = []; let start = null
  const panel = document.querySelector('.tnb-panel')
  panel.querySelector('textarea').addEventListener('keydown', () => { start = performance.now() })
  const seen = new MutationObserver(() => { if (start!==null && panel.querySelector('[data-seq]')) { window.times.push(performance.now()-start); start = null } })
  seen.observe(panel.querySelector('[data-seq]').parentNode, {childList: true, subtree: true}) }'''


def export(folder, full):
    "An untrained classifier in `folder`; its words"
    import numpy as np
    import pandas as pd
    from textnb.all import AWD_LSTM, TextClasDataBunch, set_seed, text_classifier_learner
    from textnb.models import awd_lstm_clas_config, awd_lstm_small_clas_config
    words = [f'w{i}' for i in np.random.default_rng(0).integers(0, 3000, 3000)]
    df = pd.DataFrame(dict(label=['a', 'b']*25, text=[' '.join(words[60*i:60*i+60]) for i in range(50)]))
    data = TextClasDataBunch.from_df(folder, df[:40], df[40:], text_cols='text', label_cols='label', bs=16, min_freq=1)
    set_seed(0)
    learn = text_classifier_learner(data, AWD_LSTM, config=awd_lstm_clas_config if full else awd_lstm_small_clas_config, pretrained=False, silent=True)
    learn.export('model.tnb')
    return words


def side(full, chromium):
    "Figures of one configuration"
    sys.path.insert(0, str(ROOT/'tests'))
    from panel_browser import free_port, serve, stop, write_panel
    from playwright.sync_api import sync_playwright
    from textnb.panels import page_command
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as d:
        d, port = Path(d), free_port()
        text = ' '.join(export(d, full)[:48])+' '
        write_panel(d, f'from textnb.panels import open_panel\nopen_panel("attention", {str(d/"model.tnb")!r}, text={text!r}, method="lrp")')
        cmd, env = page_command(d, port, one=True)
        p = serve(d, cmd, f'http://127.0.0.1:{port}/voila/static/voila.js', env)
        try:
            with sync_playwright() as pw:
                page = pw.chromium.launch(executable_path=chromium, args=['--no-sandbox', '--disable-gpu']).new_page()
                page.goto(f'http://127.0.0.1:{port}/')
                page.locator('.tnb-panel [data-seq]').wait_for(timeout=120_000)
                page.locator('textarea').press('Control+End')
                page.evaluate(CLOCK)
                for i in range(KEYS+2):
                    page.keyboard.press('Backspace' if i%2 else 'a')
                    page.wait_for_timeout(500)
                times = sorted(page.evaluate('times')[2:])
                kernel = re.search(r'(\d+) ms', page.locator('.tnb-panel [role=status]').inner_text())
                page.goto('about:blank')
        finally: stop(p)
    return dict(key_ms=times[len(times)//2], key_p95_ms=times[int(.95*len(times))], kernel_ms=float(kernel[1]), keys=len(times))


def run(peer=None):
    "Figures by configuration; none where there is no browser"
    sys.path.insert(0, str(ROOT))
    from conftest import find_browser
    chromium = find_browser()
    if not chromium: return {}
    return dict(small=side(False, chromium), full=side(True, chromium))


if __name__=='__main__':
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    print(json.dumps(run(), indent=1))
