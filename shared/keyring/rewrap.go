package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Sealed is a sealed record as it is kept.
type Sealed struct {
	Record envelope.Record
	Blob   []byte
}

// Reseal is an envelope that is to take the place of another with the same content.
type Reseal struct {
	Sealed
	New []byte
}

// Records is where sealed records are kept.
type Records interface {
	// Kinds lists the kinds that there are.
	Kinds() []string
	// OrgsAfter returns up to limit organizations whose id comes after the given one.
	OrgsAfter(ctx context.Context, after tenant.OrgID, limit int) ([]tenant.OrgID, error)
	// SealedAfter returns up to limit records of the organization and kind of after
	// that come after it.
	SealedAfter(ctx context.Context, after envelope.Record, limit int) ([]Sealed, error)
	// Sealed returns one record; fault.NotFound if it is not there any more.
	Sealed(ctx context.Context, rec envelope.Record) ([]byte, error)
	// Reseal replaces those of an organization's records that are still as they were
	// read, tells its audit trail, and returns the others.
	Reseal(ctx context.Context, r Run, org tenant.OrgID, all []Reseal) (changed []Reseal, err error)
	// Unfinished returns the run over a scope that has not ended; fault.NotFound if
	// there is none.
	Unfinished(ctx context.Context, scope tenant.OrgID) (Run, error)
	// Save keeps how far a run has come.
	Save(ctx context.Context, r Run) error
}

// Run is one going over all records, which can be broken off and taken up again.
type Run struct {
	ID        string          `json:"run_id"`
	Scope     tenant.OrgID    `json:"org_id,omitempty"` // empty is every organization
	At        envelope.Record `json:"-"`                // everything up to it is done
	Counts    Counts          `json:"counts"`
	StartedAt time.Time       `json:"started_at"`
	SavedAt   time.Time       `json:"-"`
	EndedAt   time.Time       `json:"-"` // zero until it is over
}

// Counts tells what became of the records.
type Counts struct {
	Resealed int `json:"resealed"` // now with the organization's key of today
	Already  int `json:"already"`  // were sealed with it before
	Gone     int `json:"gone"`     // deleted meanwhile
	Failed   int `json:"failed"`   // left as they were
}

func (c *Counts) add(d Counts) {
	c.Resealed += d.Resealed
	c.Already += d.Already
	c.Gone += d.Gone
	c.Failed += d.Failed
}

// Failure is a record that does not open, or could not be sealed anew.
type Failure struct {
	Org    string `json:"org_id"`
	App    string `json:"app_id,omitempty"`
	Kind   string `json:"kind"`
	ID     string `json:"id,omitempty"`
	Reason string `json:"reason"`
}

// maxFailures is how many are named; all are counted.
const maxFailures = 1000

func failure(rec envelope.Record, err error) Failure {
	return Failure{rec.Org, rec.App, rec.Kind, rec.ID, reason(err)}
}

// reason is for the operator, who is told more than a caller of the API, but never
// what a key service said.
func reason(err error) string {
	for _, known := range []struct {
		err  error
		text string
	}{
		{errNoKey, "its key is not here, or the organization may not use it"},
		{envelope.ErrKeyRefused, "its key may not be used: revoked, disabled or denied"},
		{envelope.ErrUnavailable, "the key service does not answer"},
		{fault.Unavailable, "the key service does not answer"},
		{errBusy, "others keep changing it"},
		{errOther, "what was sealed anew did not open to the same"},
		{envelope.ErrNotEnvelope, "it is not sealed at all"},
		{envelope.ErrVersion, "it is of a version that is not known here"},
		{envelope.ErrTruncated, "it ends too early"},
		{envelope.ErrTampered, "it does not open: not ours or not intact"},
	} {
		if errors.Is(err, known.err) {
			return known.text
		}
	}
	if errors.Is(err, fault.Sealed) {
		return "it is not what it should be"
	}
	return "it could not be read or written"
}

var (
	errBusy  = errors.New("keyring: a record is changed all the time")
	errOther = errors.New("keyring: what was sealed anew is something else")
)

// Rewrap goes over the records of a scope and seals anew what is not sealed with
// the key that its organization has today, or in an older version. It may run while
// everything else does: whoever writes a record meanwhile wins, and has sealed it
// with today's key.
//
// Each record is opened, sealed, opened again with the new key and compared, and
// replaced if it is still as it was read. A run that was broken off goes on where it
// was; a record that fails is left as it is, and keeps nothing else from going on.
type Rewrap struct {
	Keys    *Keyring
	Records Records
	Scope   tenant.OrgID // empty is every organization
	DryRun  bool         // opens what would be sealed anew, and writes nothing
	Restart bool         // forgets a run that was broken off
	NewID   func() string
	Now     func() time.Time

	run      Run
	failures []Failure
	away     map[string]error // organizations whose key service does not answer
}

// RewrapReport tells how a run ended.
type RewrapReport struct {
	Run
	DryRun   bool      `json:"dry_run,omitempty"`
	Resumed  bool      `json:"resumed,omitempty"`
	Failures []Failure `json:"failures"` // of this process, not of a run that was broken off
	Left     int       `json:"left"`     // records not sealed with today's key, at the end
}

// pageSize is how many records are read, and written, at once.
const pageSize = 100

// Run goes through with it. Its error means that the run was broken off.
func (w *Rewrap) Run(ctx context.Context) (RewrapReport, error) {
	w.away = map[string]error{}
	resumed, err := w.begin(ctx)
	if err != nil {
		return RewrapReport{}, err
	}
	err = eachOrg(ctx, w.Records, w.Scope, tenant.OrgID(w.run.At.Org), w.org)
	if err == nil {
		w.run.EndedAt = w.Now()
		err = w.save(ctx)
	}
	report := RewrapReport{Run: w.run, DryRun: w.DryRun, Resumed: resumed, Failures: w.failures}
	if err != nil {
		return report, err
	}
	status, err := w.Keys.Status(ctx, w.Records, w.Scope)
	for _, s := range status {
		if !s.Current {
			report.Left += s.Count
		}
	}
	return report, err
}

func (w *Rewrap) begin(ctx context.Context) (resumed bool, err error) {
	now := w.Now()
	fresh := Run{ID: w.NewID(), Scope: w.Scope, StartedAt: now}
	if w.DryRun {
		w.run = fresh
		return false, nil
	}
	w.run, err = w.Records.Unfinished(ctx, w.Scope)
	switch {
	case errors.Is(err, fault.NotFound):
	case err != nil:
		return false, err
	case !w.Restart:
		return true, nil
	default:
		w.run.EndedAt = now
		if err := w.save(ctx); err != nil {
			return false, err
		}
	}
	w.run = fresh
	faultpoint.Hit("rewrap/before-begin")
	return false, w.save(ctx)
}

func (w *Rewrap) save(ctx context.Context) error {
	if w.DryRun {
		return nil
	}
	w.run.SavedAt = w.Now()
	faultpoint.Hit("rewrap/before-save")
	if err := w.Records.Save(ctx, w.run); err != nil {
		return fmt.Errorf("save how far it has come: %w", err)
	}
	faultpoint.Hit("rewrap/after-save")
	return nil
}

// eachOrg calls fn for every organization of the scope from one on, that one too.
func eachOrg(ctx context.Context, records Records, scope, from tenant.OrgID, fn func(context.Context, tenant.OrgID) error) error {
	if scope != "" {
		return fn(ctx, scope)
	}
	if from != "" {
		if err := fn(ctx, from); err != nil {
			return err
		}
	}
	for {
		orgs, err := records.OrgsAfter(ctx, from, pageSize)
		if err != nil || len(orgs) == 0 {
			return err
		}
		for _, org := range orgs {
			if err := fn(ctx, org); err != nil {
				return err
			}
		}
		from = orgs[len(orgs)-1]
	}
}

// eachPage calls fn for the records of an organization that come after one, in
// pages.
func eachPage(ctx context.Context, records Records, org tenant.OrgID, after envelope.Record, fn func([]Sealed) error) error {
	begun := after.Org != string(org) || after.Kind == ""
	for _, kind := range records.Kinds() {
		at := envelope.Record{Org: string(org), Kind: kind}
		switch {
		case begun:
		case kind == after.Kind:
			begun, at = true, after
		default:
			continue
		}
		for {
			page, err := records.SealedAfter(ctx, at, pageSize)
			if err != nil {
				return fmt.Errorf("read sealed records: %w", err)
			}
			if len(page) == 0 {
				break
			}
			if err := fn(page); err != nil {
				return err
			}
			at = page[len(page)-1].Record
		}
	}
	return nil
}

func (w *Rewrap) org(ctx context.Context, org tenant.OrgID) error {
	return eachPage(ctx, w.Records, org, w.run.At, func(page []Sealed) error {
		last := page[len(page)-1].Record
		counts, err := w.page(ctx, org, page)
		if err != nil {
			return err
		}
		w.run.Counts.add(counts)
		w.run.At = last
		return w.save(ctx)
	})
}

// tries bounds how often a record is done again because somebody changed it.
const tries = 5

func (w *Rewrap) page(ctx context.Context, org tenant.OrgID, page []Sealed) (counts Counts, err error) {
	for range tries {
		var ready []Reseal
		for _, s := range page {
			fresh, err := w.fresh(ctx, s)
			switch {
			case ctx.Err() != nil:
				return counts, ctx.Err()
			case errors.Is(err, fault.Sealed), errors.Is(err, fault.Unavailable), errors.Is(err, errOther):
				counts.Failed++
				w.fail(s.Record, err)
			case err != nil:
				return counts, err // of the store: the next record would not fare better
			case fresh == nil:
				counts.Already++
			default:
				ready = append(ready, Reseal{s, fresh})
			}
		}
		if w.DryRun {
			counts.Resealed += len(ready)
			return counts, nil
		}
		changed, err := w.store(ctx, org, ready)
		if err != nil {
			return counts, err
		}
		counts.Resealed += len(ready) - len(changed)
		page = page[:0]
		for _, r := range changed {
			blob, err := w.Records.Sealed(ctx, r.Record)
			switch {
			case errors.Is(err, fault.NotFound):
				counts.Gone++
			case err != nil:
				return counts, err
			default:
				page = append(page, Sealed{r.Record, blob})
			}
		}
		if len(page) == 0 {
			return counts, nil
		}
	}
	counts.Failed += len(page)
	for _, s := range page {
		w.fail(s.Record, errBusy)
	}
	return counts, nil
}

func (w *Rewrap) store(ctx context.Context, org tenant.OrgID, ready []Reseal) ([]Reseal, error) {
	if len(ready) == 0 {
		return nil, nil
	}
	faultpoint.Hit("rewrap/before-replace")
	changed, err := w.Records.Reseal(ctx, w.run, org, ready)
	if err != nil {
		return nil, fmt.Errorf("replace sealed records: %w", err)
	}
	faultpoint.Hit("rewrap/after-replace")
	return changed, nil
}

// fresh returns the envelope that should be in the place of s; nil if s is right.
func (w *Rewrap) fresh(ctx context.Context, s Sealed) ([]byte, error) {
	current, err := w.Keys.isCurrent(ctx, s)
	if err != nil || current {
		return nil, err
	}
	if err := w.away[s.Record.Org]; err != nil {
		return nil, err
	}
	fresh, err := w.seal(ctx, s)
	if errors.Is(err, fault.Unavailable) {
		w.away[s.Record.Org] = err // the others of its records would wait as long, each
	}
	return fresh, err
}

func (w *Rewrap) seal(ctx context.Context, s Sealed) ([]byte, error) {
	plaintext, err := w.Keys.Open(ctx, s.Record, s.Blob)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	faultpoint.Hit("rewrap/after-open")
	if w.DryRun {
		return s.Blob, nil
	}
	fresh, err := w.Keys.Seal(ctx, s.Record, plaintext)
	if err != nil {
		return nil, err
	}
	faultpoint.Hit("rewrap/after-seal")
	again, err := w.Keys.Open(ctx, s.Record, fresh)
	if err != nil {
		return nil, err
	}
	defer clear(again)
	faultpoint.Hit("rewrap/after-compare")
	if !bytes.Equal(plaintext, again) {
		return nil, errOther
	}
	return fresh, nil
}

func (w *Rewrap) fail(rec envelope.Record, err error) {
	if len(w.failures) < maxFailures {
		w.failures = append(w.failures, failure(rec, err))
	}
}

// isCurrent tells whether a record is sealed with the key that its organization has
// now, in the newest version. It opens nothing.
func (k *Keyring) isCurrent(ctx context.Context, s Sealed) (bool, error) {
	id, err := k.keyOf(ctx, s.Record)
	if err != nil {
		return false, err
	}
	header, err := envelope.ReadHeader(s.Blob)
	return err == nil && header.KeyID == id && !envelope.NeedsReseal(s.Blob), nil
}
