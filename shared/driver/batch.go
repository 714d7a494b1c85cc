package driver

// ByDocument groups the places of a batch by document, documents in the order in
// which they first come.
func ByDocument(batch []Event) [][]int {
	var groups [][]int
	seen := make(map[string]int, len(batch))
	for i, e := range batch {
		name := DocumentOf(e)
		g, ok := seen[name]
		if !ok {
			g = len(groups)
			seen[name] = g
			groups = append(groups, nil)
		}
		groups[g] = append(groups[g], i)
	}
	return groups
}

// FirstOfEach leaves an outcome only to the first event of each document, since
// those behind it were not tried.
func FirstOfEach(batch []Event, outs []Outcome) []Outcome {
	seen := make(map[string]bool, len(batch))
	for i, e := range batch {
		name := DocumentOf(e)
		if seen[name] {
			outs[i] = Outcome{}
		}
		seen[name] = true
	}
	return outs
}

// All is the answer of a sink that takes a batch whole.
func All(batch []Event) []Outcome {
	outs := make([]Outcome, len(batch))
	for i := range outs {
		outs[i].Verdict = Delivered
	}
	return outs
}

// None is the answer of a sink that cannot be reached, for the reason given.
func None(batch []Event, reason string) []Outcome {
	outs := make([]Outcome, len(batch))
	for i := range outs {
		outs[i] = Outcome{Verdict: Retry, Unreachable: true, Reason: reason}
	}
	return FirstOfEach(batch, outs)
}
