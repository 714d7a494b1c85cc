package sqldb

// Waiting tells how many wait to be part of a group.
func (db *DB) Waiting(name string) int {
	g := &db.writer
	if db.Engine == Postgres {
		db.groups.mu.Lock()
		defer db.groups.mu.Unlock()
		if g = db.groups.open[name]; g == nil {
			return 0
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting)
}

// BeCareful has a group that somebody is in set savepoints from now on.
func (db *DB) BeCareful(name string) {
	g := &db.writer
	if db.Engine == Postgres {
		db.groups.mu.Lock()
		defer db.groups.mu.Unlock()
		if g = db.groups.open[name]; g == nil {
			return
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.careful = carefully
}
