package lexicon

// FreshBuiltin is Builtin in a process that has parsed nothing yet.
func FreshBuiltin() *Catalog { return &Catalog{docs: listBuiltin()} }
