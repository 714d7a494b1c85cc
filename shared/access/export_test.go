package access

// Remembered is how many tokens a Checker remembers that there are, and that there
// are not.
func (c *Checker) Remembered() (known, unknown int) { return c.known.size(), c.unknown.size() }

func (r *recent[V]) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.now) + len(r.past)
}
