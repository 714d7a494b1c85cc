package saml

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/beevik/etree"
)

// Limits of one document, before anything is made of it.
const (
	MaxResponse = 256 << 10 // bytes of a response, and of what is encrypted in it

	maxMetadata   = 256 << 10
	maxDepth      = 24
	maxElements   = 900 // the library's own walks end at 1,000, in the middle of a signature
	maxAttributes = 24
	maxID         = 256
)

// Namespaces. Prefixes mean nothing.
const (
	nsProtocol  = "urn:oasis:names:tc:SAML:2.0:protocol"
	nsAssertion = "urn:oasis:names:tc:SAML:2.0:assertion"
	nsMetadata  = "urn:oasis:names:tc:SAML:2.0:metadata"
	nsSignature = "http://www.w3.org/2000/09/xmldsig#"
	nsEncrypted = "http://www.w3.org/2001/04/xmlenc#"
	nsExcC14N   = "http://www.w3.org/2001/10/xml-exc-c14n#"
	nsXML       = "http://www.w3.org/XML/1998/namespace"
)

// limits are what differs between a message, which comes from anybody, and
// metadata, which an administrator chose.
type limits struct {
	bytes, elements int
	comments        bool
}

var (
	messageLimits  = limits{bytes: MaxResponse, elements: maxElements}
	metadataLimits = limits{bytes: maxMetadata, elements: 20_000, comments: true}
)

// read makes a tree of a document that holds nothing which two readers could
// understand in two ways: no document type and so no entities, no processing
// instructions, no comments, no element or attribute without a namespace that is
// declared, no attribute twice, no two elements of one ID.
func (l limits) read(text []byte) (*etree.Element, error) {
	if err := l.scan(text); err != nil {
		return nil, err
	}
	doc := etree.NewDocument()
	doc.ReadSettings.MaxDepth = maxDepth + 1
	doc.ReadSettings.PreserveDuplicateAttrs = true
	if err := doc.ReadFromBytes(text); err != nil || doc.Root() == nil {
		return nil, errNotXML
	}
	return doc.Root(), nil
}

var errNotXML = errors.New("is not well-formed XML in UTF-8")

// scan reads the tokens that a tree would be made of, and keeps none.
func (l limits) scan(text []byte) error {
	switch {
	case len(text) > l.bytes:
		return errors.New("is too large")
	case !utf8.Valid(text):
		return errNotXML
	}
	s := scanner{limits: l, ids: map[string]bool{}}
	d := xml.NewDecoder(bytes.NewReader(text))
	d.CharsetReader = func(string, io.Reader) (io.Reader, error) { return nil, errNotXML }
	for first := true; ; first = false {
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return errNotXML // and no more: it may quote the document
		}
		if err := s.see(token, first); err != nil {
			return err
		}
	}
	if len(s.open) != 0 || !s.rooted {
		return errNotXML
	}
	return nil
}

// scanner is where a scan stands.
type scanner struct {
	limits
	open   []scope
	rooted bool
	count  int
	ids    map[string]bool
}

// scope is an element that is open, and the prefixes that it declares.
type scope struct {
	name     xml.Name
	prefixes map[string]string
}

func (s *scanner) see(token xml.Token, first bool) error {
	switch t := token.(type) {
	case xml.Directive:
		return errors.New("holds a document type definition")
	case xml.Comment:
		if !s.comments {
			return errors.New("holds a comment")
		}
	case xml.ProcInst:
		if t.Target != "xml" || !first {
			return errors.New("holds a processing instruction")
		}
	case xml.CharData:
		if len(s.open) == 0 && len(bytes.TrimSpace(t)) != 0 {
			return errNotXML
		}
	case xml.EndElement:
		if len(s.open) == 0 || s.open[len(s.open)-1].name != t.Name {
			return errNotXML
		}
		s.open = s.open[:len(s.open)-1]
	case xml.StartElement:
		return s.start(t)
	}
	return nil
}

func (s *scanner) start(t xml.StartElement) error {
	s.count++
	switch {
	case len(s.open) == 0 && s.rooted:
		return errNotXML
	case len(s.open) >= maxDepth:
		return errors.New("is too deep")
	case s.count > s.elements:
		return errors.New("holds too many elements")
	case len(t.Attr) > maxAttributes:
		return errors.New("holds an element with too many attributes")
	}
	s.rooted = true
	declared := map[string]string{}
	for _, a := range t.Attr {
		prefix, is := declares(a.Name)
		if !is {
			continue
		}
		_, twice := declared[prefix]
		if twice || prefix == "xml" || prefix == "xmlns" || a.Value == nsXML || prefix != "" && a.Value == "" || strings.Contains(a.Name.Local, ":") {
			return errors.New("declares a namespace in a way that is not allowed")
		}
		declared[prefix] = a.Value
	}
	s.open = append(s.open, scope{t.Name, declared})
	if !s.known(t.Name) {
		return errors.New("holds a name whose prefix is not declared")
	}
	return s.attributes(t.Attr)
}

// attributes looks at those that declare no namespace.
func (s *scanner) attributes(attrs []xml.Attr) error {
	seen := map[xml.Name]bool{}
	for _, a := range attrs {
		if _, is := declares(a.Name); is {
			continue
		}
		if !s.known(a.Name) {
			return errors.New("holds a name whose prefix is not declared")
		}
		name := xml.Name{Local: a.Name.Local}
		if a.Name.Space != "" {
			name.Space = s.namespace(a.Name.Space)
		}
		if seen[name] {
			return errors.New("holds an attribute twice")
		}
		seen[name] = true
		if !s.comments && strings.EqualFold(a.Name.Local, "id") {
			if !isID(a.Value) {
				return errors.New("holds an ID that cannot be one")
			}
			if s.ids[a.Value] {
				return errors.New("holds two elements with one ID")
			}
			s.ids[a.Value] = true
		}
	}
	return nil
}

// declares tells which prefix an attribute declares, if it declares one.
func declares(name xml.Name) (prefix string, is bool) {
	if name.Space == "xmlns" {
		return name.Local, true
	}
	return "", name.Space == "" && name.Local == "xmlns"
}

// known tells whether a name is one, and its prefix declared.
func (s *scanner) known(name xml.Name) bool {
	if strings.Contains(name.Local, ":") || name.Space == "xmlns" {
		return false
	}
	return name.Space == "" || s.namespace(name.Space) != ""
}

func (s *scanner) namespace(prefix string) string {
	if prefix == "xml" {
		return nsXML
	}
	for i := len(s.open) - 1; i >= 0; i-- {
		if uri, ok := s.open[i].prefixes[prefix]; ok {
			return uri
		}
	}
	return ""
}

// isID tells whether s can be an XML ID that needs no escaping anywhere.
func isID(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '-' && c != '.') {
			return false
		}
	}
	return s != "" && len(s) <= maxID
}
