"Live panels: what one sees of a model while one plays with it"
