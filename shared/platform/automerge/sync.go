package automerge

import "slices"

// SyncState is what one side knows of the other, for one document over one
// connection. A new connection starts with a new state.
type SyncState struct {
	// MaxSendBytes is the size at which a message takes no more changes; one it
	// takes always. The rest follows in the messages after. Default 4 MiB.
	MaxSendBytes int

	shared []Hash // both sides have these and all before them

	theirHeads []Hash
	theirNeed  []Hash
	theirHave  []Have
	heard      bool // the three above are set
	reset      bool // they count on changes that we do not have; tell them, once

	sent      map[Hash]struct{} // not acknowledged yet
	spoken    bool
	lastHeads []Hash // of ours, as last told
	lastNeed  []Hash
	inFlight  bool // our last message has no answer yet
	idle      bool // what came last had nothing new in it
}

// NewSyncState returns the state for a new connection.
func NewSyncState() *SyncState {
	return &SyncState{MaxSendBytes: 4 << 20, sent: map[Hash]struct{}{}}
}

// ReceiveSync takes note of a message, after what is wanted of its changes was
// applied and stored.
func (d *Doc) ReceiveSync(s *SyncState, m *SyncMessage) {
	s.idle = s.heard && len(m.Changes) == 0 &&
		slices.Equal(s.theirHeads, m.Heads) && slices.Equal(s.theirNeed, m.Need)
	answer, had := s.inFlight, len(s.theirHeads) > 0
	s.inFlight, s.reset = false, true

	d.forget(s.sent, m.Heads)
	if len(m.Changes) == 0 && slices.Equal(m.Heads, d.Heads()) {
		s.lastHeads = m.Heads
	}
	switch known := d.known(m.Heads); {
	case len(known) < len(m.Heads):
		// They have more than we. What they sent of it is common from here on.
		s.shared = d.topmost(slices.Concat(s.shared, known, d.received(m.Changes)))
	default:
		s.shared = sortHashes(known)
		if len(m.Heads) == 0 && (had || !answer) {
			// They lost everything or want it sent anew. If instead this answers
			// what we sent, and they had nothing before, they did not take it.
			s.lastHeads = nil
			clear(s.sent)
		}
	}
	s.theirHeads, s.theirNeed, s.theirHave, s.heard = m.Heads, m.Need, m.Have, true
}

func (d *Doc) known(hashes []Hash) []Hash {
	out := make([]Hash, 0, len(hashes))
	for _, h := range hashes {
		if d.Has(h) {
			out = append(out, h)
		}
	}
	return out
}

// received returns those chunks' hashes that the document has taken in.
func (d *Doc) received(chunks [][]byte) []Hash {
	var out []Hash
	for _, c := range chunks {
		if h, ok := chunkHash(c); ok && d.Has(h) {
			out = append(out, h)
		}
	}
	return out
}

// topmost drops hashes that the document knows to be before others.
func (d *Doc) topmost(hashes []Hash) []Hash {
	hashes = sortHashes(hashes)
	covered := map[uint32]bool{}
	for _, n := range d.index(hashes) {
		for _, p := range d.nodes[n].deps {
			covered[p] = true
		}
	}
	return slices.DeleteFunc(hashes, func(h Hash) bool { return covered[d.byHash[h]] })
}

// forget removes from sent what their heads show to have arrived.
func (d *Doc) forget(sent map[Hash]struct{}, heads []Hash) {
	if len(sent) == 0 {
		return
	}
	lowest := uint32(len(d.nodes))
	for h := range sent {
		lowest = min(lowest, d.byHash[h])
	}
	d.ancestors(d.index(heads), lowest, func(n uint32) { delete(sent, d.nodes[n].hash) })
}

// GenerateSync returns the next message to send, or nil when there is nothing to
// say. need are changes that the caller waits for to apply others it holds.
//
// It does not answer a message that said nothing new with one that says nothing
// new. Two peers that cannot agree, one refusing a change of the other, would
// else go on forever.
func (d *Doc) GenerateSync(s *SyncState, need []Hash) *SyncMessage {
	m := &SyncMessage{Heads: d.Heads()}
	if s.heard && len(s.theirHave) > 0 && len(d.known(s.theirHave[0].LastSync)) < len(s.theirHave[0].LastSync) {
		if !s.reset {
			return nil
		}
		// An empty filter makes them start over.
		s.reset = false
		m.Have = []Have{{}}
		return m
	}
	m.Need = d.missing(s, need)
	send := d.toSend(s)
	unchanged := s.spoken && slices.Equal(s.lastHeads, m.Heads)
	if unchanged && len(send) == 0 {
		switch {
		case s.heard && slices.Equal(s.theirHeads, m.Heads):
			return nil
		case s.idle && slices.Equal(s.lastNeed, m.Need):
			return nil
		}
	}
	if unchanged && s.inFlight {
		return nil
	}
	fresh := d.since(d.index(s.shared))
	bloom := newBloom(len(fresh))
	for _, n := range fresh {
		bloom.add(d.nodes[n].hash)
	}
	m.Have = []Have{{LastSync: s.shared, Bloom: bloom}}
	size := 0
	for _, n := range send {
		c := &d.nodes[n]
		if size > 0 && size+len(c.raw) > s.MaxSendBytes {
			break
		}
		size += len(c.raw)
		m.Changes = append(m.Changes, c.raw)
		s.sent[c.hash] = struct{}{}
	}
	s.spoken, s.inFlight, s.lastHeads, s.lastNeed = true, true, m.Heads, m.Need
	return m
}

func (d *Doc) missing(s *SyncState, need []Hash) []Hash {
	out := slices.Concat(s.theirHeads, need)
	out = slices.DeleteFunc(out, d.Has)
	return sortHashes(out)
}

// toSend returns, dependencies first, the changes that they ask for or seem not
// to have, and that are not on their way already.
func (d *Doc) toSend(s *SyncState) []uint32 {
	if !s.heard {
		return nil
	}
	var lastSync []Hash
	for _, h := range s.theirHave {
		lastSync = append(lastSync, h.LastSync...)
	}
	// Nodes they lack, true for those that are in out.
	missing := map[uint32]bool{}
	for _, n := range d.index(s.theirNeed) {
		missing[n] = false
	}
	var out []uint32
	if len(s.theirHave) > 0 {
		for _, n := range d.since(d.index(lastSync)) {
			if d.lacks(s, n, missing) {
				missing[n] = true
				out = append(out, n)
			}
		}
	}
	for n, added := range missing {
		if !added {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.DeleteFunc(out, func(n uint32) bool {
		_, ok := s.sent[d.nodes[n].hash]
		return ok
	})
}

// lacks reports whether they seem not to have a change. One that builds on a
// change they lack they cannot have applied, whatever the filter says.
func (d *Doc) lacks(s *SyncState, n uint32, missing map[uint32]bool) bool {
	for _, p := range d.nodes[n].deps {
		if _, ok := missing[p]; ok {
			return true
		}
	}
	for i := range s.theirHave {
		if s.theirHave[i].Bloom.Contains(d.nodes[n].hash) {
			return false
		}
	}
	return true
}
