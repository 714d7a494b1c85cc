package web

import (
	"net/http"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// SetETag names the state of what is answered. It is a name of what the API can
// change of the thing, so that it serves If-Match; counters beside that may differ
// under one name, so it does not serve caches.
func SetETag(w http.ResponseWriter, tag string) { w.Header().Set("ETag", `"`+tag+`"`) }

// IfMatch reports whether the request's If-Match, if there is one, means the state of
// the given name; "*" means any. A request without it means whatever there is.
// fault.Mismatch if it means another.
//
// Where the state can change between this and the act, both belong into one
// transaction.
func IfMatch(r *http.Request, tag string) error {
	values := r.Header.Values("If-Match")
	if len(values) == 0 {
		return nil
	}
	for _, v := range strings.Split(strings.Join(values, ","), ",") {
		switch v = strings.TrimSpace(v); v {
		case "*", `"` + tag + `"`: // a weak tag is none that If-Match knows
			return nil
		}
	}
	return fault.Mismatch.New("it was changed since; get it again and look")
}
