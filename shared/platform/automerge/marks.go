package automerge

// markSet is the marks on a stretch of text, by name.
type markSet []mark

func (m markSet) equal(o markSet) bool {
	if len(m) != len(o) {
		return false
	}
	for i := range m {
		if m[i].name != o[i].name || m[i].val != o[i].val {
			return false
		}
	}
	return true
}

func (m markSet) appendJSON(b []byte) []byte {
	if len(m) == 0 {
		return b
	}
	b = append(b, `,"marks":{`...)
	for i, x := range m {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, x.name)
		b = append(b, ':')
		b = appendValue(b, x.val)
	}
	return append(b, '}')
}
