package filter

import (
	"errors"
	"fmt"
	"sync"

	"cel.dev/cel-go/cel"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/platform/expression"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// ErrCost is returned by Match for an event on which the expression costs more than
// expression.MaxCost, or whose message or patches are too long to be looked at.
var ErrCost = errors.New("filter: the expression costs too much on this event")

// language is made once: it is a constant that takes a millisecond to compute.
var language = sync.OnceValues(func() (*expression.Language, error) {
	return expression.New(expression.Setup{
		Types: []*expression.Type{eventType, patchType},
		Variables: []expression.Variable{
			{Name: "event", Type: eventType.Type},
			{Name: "patches", Type: cel.ListType(patchType.Type)},
			{Name: "time", Type: cel.TimestampType},
		},
		Says:     "a filter looks at an event and builds nothing",
		Ordinary: "an event with 64 patches",
	})
})

func compileWhere(text string) (*expression.Expression, error) {
	l, err := language()
	if err != nil {
		return nil, err
	}
	return l.Compile(text)
}

func match(where *expression.Expression, key tenant.Key, c change.Settled) (bool, error) {
	in := &input{key: key, c: &c}
	verdict, err := where.Judge(in)
	switch {
	case errors.Is(err, expression.ErrCost), err != nil && in.tooLong:
		return false, ErrCost
	case err != nil:
		return false, fmt.Errorf("filter: %w", err)
	}
	return verdict, nil
}
