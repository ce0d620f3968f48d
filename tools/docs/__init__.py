"The docs site and the README, both made from the notebooks: `python -m tools.docs` builds the site"
