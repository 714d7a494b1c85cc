package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/httptarget"
)

// deliverBatches posts several events per request. Documents are divided among
// lanes, and a lane sends one request after the other, so that a document is never
// under way twice.
func (w *webhook) deliverBatches(ctx context.Context, batch []driver.Event, until time.Time) []driver.Outcome {
	outs := make([]driver.Outcome, len(batch))
	w.Lanes(ctx, w.lanes(batch), until, func(ctx context.Context, places []int, turn httptarget.Turn) {
		l := &lane{webhook: w, ctx: ctx, turn: turn, batch: batch, outs: outs, stuck: map[string]bool{}}
		for len(places) > 0 {
			n := w.fill(batch, places)
			if !l.send(places[:n]) {
				return
			}
			places = l.moving(places[n:])
		}
	})
	return outs
}

// lanes divides a batch so that each lane fills about one request.
func (w *webhook) lanes(batch []driver.Event) [][]int {
	bytes := 0
	for _, e := range batch {
		bytes += e.Size()
	}
	lanes := make([][]int, max(1, (len(batch)+w.batch.MaxEvents-1)/w.batch.MaxEvents, (bytes+w.batch.MaxBytes-1)/w.batch.MaxBytes))
	for _, places := range driver.ByDocument(batch) {
		least := 0
		for i := range lanes {
			if len(lanes[i]) < len(lanes[least]) {
				least = i
			}
		}
		lanes[least] = append(lanes[least], places...)
	}
	for _, l := range lanes {
		slices.Sort(l)
	}
	return slices.DeleteFunc(lanes, func(l []int) bool { return len(l) == 0 })
}

// fill returns how many of the events fit into a request; one always goes.
func (w *webhook) fill(batch []driver.Event, places []int) int {
	bytes := 0
	for n, i := range places {
		if bytes += batch[i].Size() + 1; n > 0 && (n == w.batch.MaxEvents || bytes > w.batch.MaxBytes) {
			return n
		}
	}
	return len(places)
}

// lane is some documents' way to the receiver.
type lane struct {
	*webhook
	ctx   context.Context
	turn  httptarget.Turn
	batch []driver.Event
	outs  []driver.Outcome
	stuck map[string]bool // documents that go no further
	alone int             // events that failed with 500 in a request of their own
}

// moving leaves out the documents that are stuck.
func (l *lane) moving(places []int) []int {
	if len(l.stuck) == 0 {
		return places
	}
	return slices.DeleteFunc(slices.Clone(places), func(i int) bool { return l.stuck[driver.DocumentOf(l.batch[i])] })
}

// failsAlone is after how many events that fail with 500 by themselves it is the
// receiver that fails and not the events.
const failsAlone = 3

// send posts events in one request and reports whether to go on behind them. A
// request that is refused is taken apart until the event is found that is not
// wanted. So is one that ends with 500, which is how some receivers refuse; all
// other trouble is the receiver's, and the events go again together.
func (l *lane) send(places []int) bool {
	var out driver.Outcome
	if !l.turn(func() driver.Outcome {
		out = l.postAll(places)
		return out
	}) {
		return false
	}
	suspect := out.Verdict == driver.Refused || out.Status == "500"
	switch {
	case out.Verdict == driver.Delivered:
		for _, i := range places {
			l.outs[i] = out
		}
		return true
	case suspect && len(places) > 1:
		half := len(places) / 2
		if !l.send(places[:half]) {
			return false
		}
		rest := l.moving(places[half:])
		return len(rest) == 0 || l.send(rest)
	case suspect:
		l.stop(places, out)
		if out.Status == "500" {
			l.alone++
		}
		return l.alone < failsAlone
	}
	l.stop(places, out)
	return false
}

// stop gives the outcome to the first event of each document; those behind it were,
// as far as anybody knows, not taken either.
func (l *lane) stop(places []int, out driver.Outcome) {
	for _, i := range places {
		if name := driver.DocumentOf(l.batch[i]); !l.stuck[name] {
			l.stuck[name] = true
			l.outs[i] = out
		}
	}
}

func (l *lane) postAll(places []int) driver.Outcome {
	size := 2
	ids := sha256.New()
	for _, i := range places {
		size += l.batch[i].Size() + 64
		ids.Write([]byte(l.batch[i].ID))
		ids.Write([]byte{'\n'})
	}
	// The same events in the same order have the same id, so that a receiver knows
	// a repeat.
	id := "batch_" + hex.EncodeToString(ids.Sum(nil)[:16])
	m := l.signer.begin(id, size)
	m.text = append(m.text, '[')
	for n, i := range places {
		if n > 0 {
			m.text = append(m.text, ',')
		}
		m.text = l.batch[i].AppendJSON(m.text)
	}
	m.text = append(m.text, ']')
	return l.webhook.send(l.ctx, id, "application/cloudevents-batch+json", m)
}
