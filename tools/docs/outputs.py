"Saved outputs on a page: pictures in their real size, live widgets only where their state was saved"
import json
import re

from tools.docs.links import fix_links, short_names

VIEW = 'application/vnd.jupyter.widget-view+json'
STATE = 'application/vnd.jupyter.widget-state+json'
NPM = 'https://cdn.jsdelivr.net/npm'


def joined(text):
    "`text`, which a notebook may store as a list of lines, as one string"
    return ''.join(text) if isinstance(text, list) else text


def fix_output(output, states, alt=''):
    "Give a picture its real width and the description `alt`, and show a widget without saved state as HTML; says whether it is a live widget"
    data = output.get('data', {})
    view = data.pop(VIEW, None)
    live = bool(view and view.get('model_id') in states)
    if live: data['text/html'] = f'<script type="{VIEW}">{json.dumps(view)}</script>'
    if 'image/png' in data and 'text/html' not in data:
        width = output.get('metadata', {}).get('image/png', {}).get('width')
        size = f' width="{width}"' if width else ''
        png = joined(data.pop('image/png')).strip()
        data['text/html'] = f'<img src="data:image/png;base64,{png}" class="img-fluid" alt="{alt}"{size}>'
    return live


def widget_manager(states):
    "A cell that loads the program which draws live widgets from their `states`"
    saved = json.dumps(states).replace('</', r'<\/')
    script = f'<script src="{NPM}/@jupyter-widgets/html-manager@1.0/dist/embed.js"></script>'
    source = f'```{{=html}}\n<script type="{STATE}">{saved}</script>\n{script}\n```'
    return dict(cell_type='markdown', id='widgets', metadata={}, source=source)


def front_matter(source):
    "The title in the front matter `source`, and the front matter without what only Quarto knows"
    title = re.search(r'^title: *(.*)', source, re.M)
    kept = re.sub(r'^(output-file|skip_exec|skip_showdoc):.*\n', '', source, flags=re.M)
    return title[1].strip('\'"') if title else '', kept


def stage_page(nb, base, up=''):
    "Mend links, outputs and front matter of the processed notebook `nb`, in place; `up` is the way from its page to the top of the site"
    widgets = nb['metadata'].get('widgets', {}).get(STATE, {})
    title, live = '', False
    for cell in nb['cells']:
        source = joined(cell['source'])
        if cell['cell_type']=='raw':
            found, source = front_matter(source)
            title = title or found
        elif cell['cell_type']=='markdown': source = fix_links(source, base, up)
        cell['source'] = source
        described = re.search(r'^#\| *fig-alt: *(.*)', source, re.M)
        alt = described[1] if described else f'Figure: {title}'
        for output in cell.get('outputs', []):
            data = output.get('data', {})
            if 'text/markdown' in data: data['text/markdown'] = short_names(fix_links(joined(data['text/markdown']), base, up))
            live |= fix_output(output, widgets.get('state', {}), alt)
    if live: nb['cells'].append(widget_manager(widgets))
    return nb
