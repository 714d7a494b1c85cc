package federation

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

const (
	// writeLimit is how long a reader may take for one piece. The server's own limit,
	// which is for whole answers, would end a long export.
	writeLimit = 10 * time.Second
	// signLimit is for what comes before the first line: a long trail that was never
	// signed is checked first.
	signLimit = 2 * time.Minute
)

// exportTrail writes a trail as lines that `peat audit verify` checks. It is linked
// and signed up to its end first, so that what is exported is what can be proved.
func (f *Function) exportTrail(find reach) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		whole := r.Context()
		ctx, cancel := context.WithTimeout(whole, signLimit)
		defer cancel()
		to := http.NewResponseController(w)
		_ = to.SetWriteDeadline(time.Now().Add(signLimit + writeLimit)) // a writer without limits needs none
		r = r.WithContext(ctx)
		t, err := find(r)
		if err != nil {
			return err
		}
		if t.from, err = fromOf(r, t); err != nil {
			return err
		}
		if t.chain, err = f.seal(ctx, t.org); err != nil {
			return err
		}
		c, heads, err := f.contents(ctx, t)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.Header().Set("Content-Disposition", `attachment; filename="audit-`+string(t.org)+`.ndjson"`)
		x := &exporter{f: f, w: w, to: to, t: t, heads: heads}
		if err := audit.WriteContents(&x.piece, c); err != nil {
			return err
		}
		return x.run(whole)
	}
}

// fromOf is the first entry that is wanted.
func fromOf(r *http.Request, t trail) (uint64, error) {
	text := r.URL.Query().Get("from")
	if text == "" {
		return t.from, nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || n < t.from || n > t.chain.Seq+1 {
		return 0, fault.Malformed.New("from must be the number of an entry, %d to %d, or the next", t.from, t.chain.Seq)
	}
	return n, nil
}

// contents says what an export will hold, and of which entries it will show heads:
// others may be signed while it is written.
func (f *Function) contents(ctx context.Context, t trail) (audit.Contents, []uint64, error) {
	c := audit.Contents{Org: t.org, From: t.from, To: t.chain.Seq, Hash: t.chain.Hash, At: store.Precise(f.Now())}
	if t.from > 1 {
		before, err := f.Store.ChainEntries(ctx, t.org, t.from-2, 1)
		if err != nil {
			return c, nil, err
		}
		if len(before) == 0 || before[0].Seq != t.from-1 {
			return c, nil, altered(t.org, t.from-1)
		}
		c.Prev = before[0].Hash
	}
	var seqs []uint64
	for after := t.from - 1; ; {
		page, err := f.Store.AuditHeads(ctx, t.org, after, entryPage)
		if err != nil {
			return c, nil, err
		}
		for _, h := range page {
			if after = h.Seq; h.Seq <= c.To {
				seqs = append(seqs, h.Seq)
			}
		}
		if len(page) < entryPage {
			break
		}
	}
	c.Heads = len(seqs)
	return f.Key.Contents(c), seqs, nil
}

// exporter writes one export.
type exporter struct {
	f     *Function
	w     http.ResponseWriter
	to    *http.ResponseController
	t     trail
	heads []uint64 // whose turn has not come
	piece bytes.Buffer
}

// run writes entries and heads until the end or until the reader has gone.
func (x *exporter) run(ctx context.Context) error {
	for at := x.t.from - 1; ; {
		if err := x.send(); err != nil {
			return nil // the reader has gone away
		}
		if at >= x.t.chain.Seq {
			return nil
		}
		page, err := x.f.Store.ChainEntries(ctx, x.t.org, at, int(min(entryPage, x.t.chain.Seq-at)))
		if err == nil && len(page) == 0 {
			err = altered(x.t.org, at+1)
		}
		if err != nil {
			return x.breakOff(ctx, at, err)
		}
		for _, e := range page {
			at = e.Seq
			if err := errors.Join(audit.WriteEntry(&x.piece, e), x.head(ctx, e.Seq)); err != nil {
				return x.breakOff(ctx, at, err)
			}
		}
	}
}

// breakOff ends the connection, so that nobody takes a part for the whole. If the
// request itself has ended there is nobody, or somebody who may not have it any more;
// the first line says in any case what is missing.
func (x *exporter) breakOff(ctx context.Context, at uint64, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	x.f.Log.ErrorContext(ctx, "audit export broken off", "org", x.t.org, "at", at, "err", err)
	panic(http.ErrAbortHandler)
}

// head writes the head of an entry, if there is to be one.
func (x *exporter) head(ctx context.Context, seq uint64) error {
	if len(x.heads) == 0 || x.heads[0] != seq {
		return nil
	}
	x.heads = x.heads[1:]
	h, err := x.f.Store.AuditHead(ctx, x.t.org, seq)
	if err != nil {
		return err
	}
	return audit.WriteHead(&x.piece, h)
}

func (x *exporter) send() error {
	_ = x.to.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, err := x.w.Write(x.piece.Bytes()); err != nil {
		return err
	}
	x.piece.Reset()
	return x.to.Flush()
}
