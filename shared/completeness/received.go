package completeness

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// received is what of a structured event is looked at.
type received struct {
	Spec     string          `json:"specversion"`
	ID       string          `json:"id"`
	Type     string          `json:"type"`
	Source   string          `json:"source"`
	Subject  string          `json:"subject"`
	Sequence string          `json:"sequence"`
	Org      tenant.OrgID    `json:"peatorg"`
	Replay   string          `json:"replayid"`
	Body     json.RawMessage `json:"data"`

	Data   event.SkippedData `json:"-"` // a change's data has all of its fields
	digest uint32            // over type and data, without insignificant space
}

// check takes a line apart. whole is false for a last line that has no end.
func (v *Verifier) check(line []byte, whole bool) {
	err := v.each(line)
	if err != nil && !whole {
		err = errors.New("the last line is torn")
	}
	if err != nil {
		v.problem(Malformed, "", "%s", err)
	}
}

// each checks the event of a line, or one after the other those of a batch: a long
// batch of short events must not become many times its size.
func (v *Verifier) each(line []byte) error {
	if line[0] != '[' {
		var e received
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		v.event(e)
		return nil
	}
	batch := json.NewDecoder(bytes.NewReader(line))
	if _, err := batch.Token(); err != nil {
		return err
	}
	for batch.More() {
		var e received
		if err := batch.Decode(&e); err != nil {
			return err
		}
		v.event(e)
	}
	if _, err := batch.Token(); err != nil {
		return err
	}
	if _, err := batch.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the batch")
	}
	return nil
}

func (v *Verifier) event(e received) {
	switch e.Type {
	case event.DocumentChangedType, event.ChangeSkippedType:
	default:
		if e.Spec == "" || e.Type == "" || e.ID == "" {
			v.problem(Malformed, "", "not a CloudEvent in structured JSON")
			return
		}
		v.report.Others++
		if e.Org != "" {
			v.ours(e.Org, "", "")
		}
		return
	}
	if err := e.read(&v.data); err != nil {
		v.problem(Malformed, e.Data.Document, "%s", err)
		return
	}
	if v.ours(e.Data.Org, e.Data.App, e.Data.Document) {
		v.about(e)
	}
}

// read reads the data and holds it against the attributes. compact is scratch space.
func (e *received) read(compact *bytes.Buffer) error {
	if err := json.Unmarshal(e.Body, &e.Data); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	d := e.Data
	if d.Org == "" || d.App == "" || d.Document == "" || d.Seq == 0 || d.Hash == (change.Hash{}) || e.ID == "" {
		return errors.New("lacks an id, org_id, app_id, document_id, seq or change_hash")
	}
	if e.Source != event.FormationSource(d.Org, d.App) || e.Subject != d.Document {
		return errors.New("its source or subject is not what its data says")
	}
	if e.Sequence != "" {
		if n, err := strconv.ParseUint(e.Sequence, 10, 64); err != nil || n != d.Seq {
			return fmt.Errorf("its sequence is not seq %d", d.Seq)
		}
	}
	if e.Type == event.DocumentChangedType && e.ID != event.DocumentChangedID(tenant.Key{Org: d.Org, App: d.App}, d.Document, d.Hash) {
		return errors.New("its id is not the one of its change")
	}
	compact.Reset()
	if err := json.Compact(compact, e.Body); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	h := sha256.New()
	h.Write([]byte(e.Type))
	h.Write(compact.Bytes())
	e.digest, e.Body = binary.BigEndian.Uint32(h.Sum(nil)), nil
	return nil
}

// ours reports whether an event belongs into the file. The first one decides what
// the terms leave open.
func (v *Verifier) ours(org tenant.OrgID, app tenant.AppID, document string) bool {
	r := &v.report
	if r.Org == "" {
		r.Org = org
	}
	if r.App == "" {
		r.App = string(app)
	}
	if org != r.Org {
		v.problem(Foreign, document, "belongs to organization %q", org)
		return false
	}
	if app != "" && r.App != delivery.AllFormations && string(app) != r.App {
		v.problem(Foreign, document, "belongs to formation %q", app)
		return false
	}
	return true
}
