package web_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

func TestAStreamEndsWithItsCallersRight(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		need web.Role
		ends bool
	}{
		"the token was revoked":      {fault.Unauthenticated.New("no"), web.Viewer, true},
		"the role is less":           {fault.Forbidden.New("no"), web.Viewer, true},
		"the formation is gone":      {fault.NotFound.New("no"), web.Viewer, true},
		"nothing has changed":        {nil, web.Viewer, false},
		"nobody can be asked now":    {fault.Unavailable.New("not now"), web.Viewer, false},
		"anyone may, so nobody asks": {fault.Unauthenticated.New("no"), web.Anyone, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int32
				start := time.Now()
				h := web.Mux([]web.Route{{Pattern: "GET /stream", Need: tc.need, Stream: true, Handle: func(_ http.ResponseWriter, r *http.Request) error {
					<-r.Context().Done()
					return nil
				}}}, web.Options{Recheck: 10 * time.Second, Authorize: func(r *http.Request, _ web.Role) (context.Context, error) {
					// The right is lost after 35 seconds.
					if calls.Add(1); time.Since(start) > 35*time.Second && tc.err != nil {
						return nil, tc.err
					}
					return r.Context(), nil
				}})
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/stream", nil).WithContext(ctx))
				want := time.Hour
				if tc.ends {
					want = 40 * time.Second
				}
				if took := time.Since(start); took != want {
					t.Errorf("it ended after %s, want %s; %d questions", took, want, calls.Load())
				}
			})
		})
	}
}
