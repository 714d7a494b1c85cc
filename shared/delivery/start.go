package delivery

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/change"
)

// Start is where in the log a new sink begins. One of its fields is set; none is
// the end of the log.
type Start struct {
	Beginning bool
	Position  *uint64                  // after this position, in one formation
	Time      *time.Time               // with the changes received from then on
	Heads     map[string][]change.Hash // by document: what the receiver has already
}

// What a start is limited to.
const (
	maxHeadDocuments = 1000
	maxHeads         = 64
)

type startWire struct {
	Position *uint64             `json:"position,omitempty"`
	Time     *time.Time          `json:"time,omitempty"`
	Heads    map[string][]string `json:"heads,omitempty"`
}

// ParseStart reads where a new sink begins: "now", "beginning", or an object with
// a position, a time or heads. Nothing at all is now.
func ParseStart(in json.RawMessage) (Start, error) {
	if len(in) == 0 || string(in) == "null" {
		return Start{}, nil
	}
	var word string
	if json.Unmarshal(in, &word) == nil {
		switch word {
		case "", "now":
			return Start{}, nil
		case "beginning":
			return Start{Beginning: true}, nil
		}
		return Start{}, invalid("start", "must be now, beginning, or an object with position, time or heads")
	}
	var w startWire
	if err := strict(in, &w); err != nil {
		return Start{}, invalid("start", "must be now, beginning, or an object with position, time or heads")
	}
	set := 0
	for _, is := range []bool{w.Position != nil, w.Time != nil, w.Heads != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		return Start{}, invalid("start", "must have one of position, time and heads")
	}
	if w.Position != nil && *w.Position > 1<<62 {
		return Start{}, invalid("start/position", "is larger than any log")
	}
	s := Start{Position: w.Position, Time: w.Time}
	if w.Heads == nil {
		return s, nil
	}
	s.Heads = make(map[string][]change.Hash, len(w.Heads))
	if len(w.Heads) > maxHeadDocuments {
		return Start{}, invalid("start/heads", "are of more than 1000 documents")
	}
	for document, texts := range w.Heads {
		if len(texts) == 0 || len(texts) > maxHeads || document == "" {
			return Start{}, invalid("start/heads", "must be one to 64 hashes for each document")
		}
		for _, text := range texts {
			h, err := change.ParseHash(text)
			if err != nil {
				return Start{}, invalid("start/heads", "must be change hashes: 64 hexadecimal digits")
			}
			s.Heads[document] = append(s.Heads[document], h)
		}
		slices.SortFunc(s.Heads[document], func(a, b change.Hash) int { return bytes.Compare(a[:], b[:]) })
	}
	return s, nil
}

// MarshalJSON writes what ParseStart reads.
func (s Start) MarshalJSON() ([]byte, error) {
	switch {
	case s.Beginning:
		return []byte(`"beginning"`), nil
	case s.Position == nil && s.Time == nil && s.Heads == nil:
		return []byte(`"now"`), nil
	}
	w := startWire{Position: s.Position, Time: s.Time}
	if s.Heads != nil {
		w.Heads = map[string][]string{}
		for document, hashes := range s.Heads {
			for _, h := range hashes {
				w.Heads[document] = append(w.Heads[document], h.String())
			}
		}
	}
	return json.Marshal(w)
}

// UnmarshalJSON is ParseStart, for what was stored.
func (s *Start) UnmarshalJSON(in []byte) error {
	var err error
	*s, err = ParseStart(in)
	return err
}

// strict reads JSON and refuses what it does not know.
func strict(in []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(in))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}
