package documents

import (
	"bytes"
	"net/http"
	"time"
)

// output writes to a reader that may be slow or gone. Each piece has its own time
// limit; the server's, which is for whole answers, would end long ones.
type output struct {
	bytes.Buffer // what is to be sent next
	w            http.ResponseWriter
	to           *http.ResponseController
}

// writeLimit is how long a reader may take for one piece.
const writeLimit = 10 * time.Second

func newOutput(w http.ResponseWriter) *output {
	return &output{w: w, to: http.NewResponseController(w)}
}

// send writes what is in the buffer, and empties it. An error means that the
// reader has gone away, or as good as.
func (o *output) send() error {
	for o.Len() > 0 {
		o.extend()
		if _, err := o.w.Write(o.Next(pieceBytes)); err != nil {
			return err
		}
	}
	o.Reset()
	return o.to.Flush()
}

// extend gives the next write its time. A writer without limits needs none.
func (o *output) extend() { _ = o.to.SetWriteDeadline(time.Now().Add(writeLimit)) }
