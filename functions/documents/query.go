package documents

import (
	"net/http"
	"strconv"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// Limits of a page.
const (
	defaultEvents = 100
	maxEvents     = 1000
	maxPageBytes  = 8 << 20 // of events as they are written; a single longer one still comes, alone
)

// maxWait is how long a request may wait for an event.
const maxWait = 25 * time.Second

// query is what a page is asked with.
type query struct {
	limit int
	wait  time.Duration
}

func parseQuery(r *http.Request) (query, error) {
	q := query{limit: defaultEvents}
	if s := r.URL.Query().Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxEvents {
			return query{}, wrongField(fault.Malformed, "limit", "must be a number between 1 and 1000")
		}
		q.limit = n
	}
	if s := r.URL.Query().Get("wait"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 || d > maxWait {
			return query{}, wrongField(fault.Malformed, "wait", "must be a duration between 0s and 25s")
		}
		q.wait = d
	}
	return q, nil
}

// parseFormat reads the query's format.
func parseFormat(r *http.Request) (delivery.Format, error) {
	f, err := delivery.ParseFormat(r.URL.Query().Get("format"))
	if err != nil {
		return "", wrongField(fault.Malformed, "format", "must be patches, raw or both")
	}
	return f, nil
}

// wrongField is a fault of the given kind about one part of the input.
func wrongField(kind fault.Kind, field, detail string) error {
	return &fault.Error{Kind: kind, Message: field + " " + detail, Fields: []fault.Field{{Pointer: "/" + field, Detail: detail}}}
}
