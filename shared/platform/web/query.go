package web

import (
	"net/http"
	"path"
	"strings"
)

// clean reports whether ServeMux would serve the path as it stands. Others it
// redirects, and a redirect repeats the query, in which a ticket may ride.
func clean(p string) bool {
	if !strings.HasPrefix(p, "/") {
		return false
	}
	cleaned := path.Clean(p)
	if strings.HasSuffix(p, "/") && cleaned != "/" {
		cleaned += "/"
	}
	return cleaned == p
}

// minSecret is the length from which a value of a query is kept out of the log.
// Shorter ones guard nothing, and taking them out would tear words apart.
const minSecret = 6

// withoutQuery takes the request's query, and each value in it, out of a text
// that is to be logged. An error or a panic from deep below may quote the URL.
func withoutQuery(text string, r *http.Request) string {
	const hidden = "[query]"
	if len(r.URL.RawQuery) < minSecret {
		return text
	}
	text = strings.ReplaceAll(text, r.URL.RawQuery, hidden)
	for _, values := range r.URL.Query() {
		for _, v := range values {
			if len(v) >= minSecret {
				text = strings.ReplaceAll(text, v, hidden)
			}
		}
	}
	return text
}
