package documents

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
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

// openAsAsked returns a reader of the path's formation, with the query's format
// and filter.
func (f *Function) openAsAsked(r *http.Request) (*reader, error) {
	log, err := f.open(r)
	if err != nil {
		return nil, err
	}
	if log.format, err = delivery.ParseFormat(r.URL.Query().Get("format")); err != nil {
		return nil, inQuery(err)
	}
	log.filter, err = filter.Compile(filter.Spec{Documents: r.URL.Query()["documents"], Where: r.URL.Query().Get("where")})
	return log, inQuery(err)
}

// inQuery is what is wrong with a body, said of the query: its parts stand by
// themselves there, and a query that is wrong is a request that cannot be read.
func inQuery(err error) error {
	was := fault.Of(err)
	if was == nil {
		return err
	}
	again := *was
	again.Kind, again.Fields = fault.Malformed, nil
	again.Message = strings.TrimPrefix(was.Message, "filter/")
	for _, field := range was.Fields {
		again.Fields = append(again.Fields, fault.Field{Pointer: strings.TrimPrefix(field.Pointer, "/filter"), Detail: field.Detail})
	}
	return &again
}

// wrongField is a fault of the given kind about one part of the input.
func wrongField(kind fault.Kind, field, detail string) error {
	return &fault.Error{Kind: kind, Message: field + " " + detail, Fields: []fault.Field{{Pointer: "/" + field, Detail: detail}}}
}
