package gather

// Seen has a group go on as if so many calls of a key had been worked on last.
func (g *Group[K, In, Out]) Seen(key K, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lines == nil {
		g.lines = map[K]*line[In, Out]{}
	}
	g.lines[key] = &line[In, Out]{last: n}
}
