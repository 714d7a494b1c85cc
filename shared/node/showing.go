package node

import (
	"context"

	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
)

// Shown is what a node shows of itself.
type Shown struct {
	Token env.Secret // an enrollment token
}

// Showing gets what is shown each time that it is asked for: what was good an hour
// ago may have been replaced.
type Showing interface {
	Show(ctx context.Context) (Shown, error)
}

// ShowFunc is a function that does so.
type ShowFunc func(ctx context.Context) (Shown, error)

// Show calls it.
func (f ShowFunc) Show(ctx context.Context) (Shown, error) { return f(ctx) }
