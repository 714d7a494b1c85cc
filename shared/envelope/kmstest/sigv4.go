package kmstest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// signer is who a request has to be signed by: AWS Signature Version 4.
type signer struct {
	id, secret      string
	session         string // token that goes with temporary credentials; may be empty
	region, service string
}

// skew is how far a signature's time may be off.
const skew = 5 * time.Minute

// refuse returns why a request is refused, as an error's code and text, or
// nothing if its signature is good. body is what was received as the body.
func (s signer) refuse(r *http.Request, body []byte, now time.Time) (code, text string) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return "MissingAuthenticationTokenException", "Missing Authentication Token"
	}
	given, ok := strings.CutPrefix(header, "AWS4-HMAC-SHA256 ")
	if !ok {
		return "IncompleteSignatureException", "Authorization is of another algorithm."
	}
	part := map[string]string{}
	for field := range strings.SplitSeq(given, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		part[name] = value
	}
	scope := strings.Split(part["Credential"], "/")
	if len(scope) != 5 || part["SignedHeaders"] == "" || part["Signature"] == "" || len(part) != 3 {
		return "IncompleteSignatureException", "Authorization lacks a part."
	}
	stamp := r.Header.Get("X-Amz-Date")
	at, err := time.Parse("20060102T150405Z", stamp)
	switch {
	case err != nil:
		return "IncompleteSignatureException", "Date must be in ISO-8601 'basic format'."
	case scope[0] != s.id || r.Header.Get("X-Amz-Security-Token") != s.session:
		return "UnrecognizedClientException", "The security token included in the request is invalid."
	case scope[1] != stamp[:8]:
		return "InvalidSignatureException", "Date in Credential scope does not match the date of the request."
	case scope[2] != s.region || scope[3] != s.service || scope[4] != "aws4_request":
		return "InvalidSignatureException", "Credential should be scoped to " + s.region + "/" + s.service + "."
	case at.Before(now.Add(-skew)):
		return "InvalidSignatureException", "Signature expired: " + stamp
	case at.After(now.Add(skew)):
		return "InvalidSignatureException", "Signature not yet current: " + stamp
	}
	signed := strings.Split(part["SignedHeaders"], ";")
	if !slices.IsSorted(signed) {
		return "InvalidSignatureException", "SignedHeaders are not sorted."
	}
	// What is not signed could be changed on the way.
	must := []string{"host"}
	for name := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") || name == "content-type" {
			must = append(must, name)
		}
	}
	for _, name := range must {
		if !slices.Contains(signed, name) {
			return "InvalidSignatureException", "Header " + name + " must be signed."
		}
	}
	digest := hexSum(body)
	if claimed := r.Header.Get("X-Amz-Content-Sha256"); claimed != "" && claimed != digest {
		return "InvalidSignatureException", "The body is another than was signed."
	}
	if !hmac.Equal([]byte(s.sign(r, signed, digest, stamp)), []byte(part["Signature"])) {
		return "InvalidSignatureException", "The request signature we calculated does not match the signature you provided."
	}
	return "", ""
}

// sign returns the signature of a request in which these headers are signed.
func (s signer) sign(r *http.Request, signed []string, digest, stamp string) string {
	var canonical strings.Builder
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	canonical.WriteString(r.Method + "\n" + path + "\n" + canonicalQuery(r.URL.Query()) + "\n")
	for _, name := range signed {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = strconv.FormatInt(r.ContentLength, 10) // net/http takes it out of the header
		}
		canonical.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	canonical.WriteString("\n" + strings.Join(signed, ";") + "\n" + digest)

	scope := strings.Join([]string{stamp[:8], s.region, s.service, "aws4_request"}, "/")
	text := "AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + hexSum([]byte(canonical.String()))
	key := []byte("AWS4" + s.secret)
	for _, step := range []string{stamp[:8], s.region, s.service, "aws4_request", text} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(step))
		key = mac.Sum(nil)
	}
	return hex.EncodeToString(key)
}

func canonicalQuery(q url.Values) string {
	return strings.ReplaceAll(q.Encode(), "+", "%20")
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
