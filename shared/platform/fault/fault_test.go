package fault_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

func TestClassAndCauseAreFoundThroughWrapping(t *testing.T) {
	err := fmt.Errorf("read org: %w", fault.NotFound.Wrap(io.ErrUnexpectedEOF, "no org %q", "acme"))
	if !errors.Is(err, fault.NotFound) {
		t.Errorf("class not found in %v", err)
	}
	if errors.Is(err, fault.Conflict) {
		t.Errorf("wrong class found in %v", err)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cause not found in %v", err)
	}
	if got := fault.Of(err).Message; got != `no org "acme"` {
		t.Errorf("message = %q: the cause must not be in it", got)
	}
}

func TestRetryInLeavesTheOriginalAlone(t *testing.T) {
	first := fault.Exhausted.New("too many")
	second := fault.RetryIn(first, time.Minute)
	if fault.Of(first).After != 0 || fault.Of(second).After != time.Minute {
		t.Errorf("after = %v and %v", fault.Of(first).After, fault.Of(second).After)
	}
	if plain := errors.New("x"); fault.RetryIn(plain, time.Second) != plain || fault.Of(plain) != nil {
		t.Error("an unclassified error is not to be classified by RetryIn")
	}
}
