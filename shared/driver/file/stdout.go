package file

import (
	"context"
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// Output is a stream that several sinks write lines to.
type Output struct {
	mu   sync.Mutex
	w    io.Writer
	torn bool
}

// NewOutput makes an output of a stream that nobody else writes to.
func NewOutput(w io.Writer) *Output {
	if o, ok := w.(*Output); ok {
		return o
	}
	return &Output{w: w}
}

// Write writes lines in one piece. What is left of a line that could not be
// written whole cannot be taken back, but it does not spoil the next one.
func (o *Output) Write(lines []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.torn {
		if _, err := o.w.Write([]byte{'\n'}); err != nil {
			return 0, err
		}
		o.torn = false
	}
	n, err := o.w.Write(lines)
	if err == nil && n < len(lines) {
		err = io.ErrShortWrite
	}
	if err != nil {
		o.torn = n > 0 && lines[n-1] != '\n'
	}
	return n, err
}

// ParseStdout checks the configuration of a stdout sink, which has none.
func ParseStdout(in json.RawMessage, prior []byte, _ driver.Settings) (driver.Config, error) {
	var c struct{}
	return driver.Config{Public: c}, driver.DecodeConfig(in, &c)
}

// stdout writes events to the process's own output, one line each.
type stdout struct{ out *Output }

// OpenStdout makes a driver of it.
func OpenStdout(o driver.Opening) (driver.Driver, error) { return stdout{NewOutput(o.Stdout)}, nil }

// Deliver writes the batch in one piece. What reached the output of a batch that
// failed comes again with it.
func (d stdout) Deliver(ctx context.Context, batch []driver.Event, until time.Time) []driver.Outcome {
	if len(batch) == 0 || isOver(ctx, until) {
		return make([]driver.Outcome, len(batch))
	}
	_, err := d.out.Write(appendLines(nil, batch))
	return all(batch, err)
}

func (stdout) Close() error { return nil }

// Assess says what is known of the output, which is nothing.
func (stdout) Assess(context.Context) (driver.Durability, error) {
	var g driver.Durability
	g.Worst("E", "an event counts as delivered when the system has taken it for the process's output; nothing tells whether anybody keeps it")
	return g, nil
}
