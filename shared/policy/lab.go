package policy

// Part is one of the things that a rule asks, by itself. Its text and detail may
// hold values of claims: they are for who may see those.
type Part struct {
	Text   string `json:"text"`             // as it is written in the rule
	Result Result `json:"result"`           // what it came to
	Detail string `json:"detail,omitempty"` // why it failed
	Saw    []Seen `json:"saw,omitempty"`    // what it looked at
	Parts  []Part `json:"parts,omitempty"`  // of one put together with && or ||
}

// Result is what a part came to.
type Result string

// The results.
const (
	True    Result = "true"
	False   Result = "false"
	Failed  Result = "failed"  // it could not be evaluated
	Skipped Result = "skipped" // nothing depended on it
)

// Seen is a value that a part looked at.
type Seen struct {
	Name  string `json:"name"`
	Value string `json:"value"` // as JSON, cut
}
