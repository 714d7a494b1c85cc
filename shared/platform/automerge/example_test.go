package automerge_test

import (
	"fmt"

	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge/automergetest"
)

func ExampleDoc_Apply() {
	// Two replicas write at once.
	alice, bob := automergetest.NewAuthor("aa"), automergetest.NewAuthor("bb")
	theirs := automerge.NewDoc()
	start := alice.Commit(theirs, automergetest.Put(automergetest.Text("hello"), "note"))
	fromAlice := alice.Change(theirs, automergetest.Splice(0, " world", "note", 5))
	fromBob := bob.Change(theirs, automergetest.Splice(1, "J", "note", 0), automergetest.Put(true, "seen"))

	d := automerge.NewDoc()
	for _, chunk := range [][]byte{start, fromAlice, fromBob} {
		c, err := automerge.DecodeChange(chunk, automerge.DefaultLimits())
		if err != nil {
			fmt.Println(err)
			return
		}
		patches, err := d.Apply(c)
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, p := range patches {
			fmt.Printf("%s %s\n", c.Actor, p.AppendJSON(nil))
		}
	}
	b, _ := d.MarshalJSON()
	fmt.Printf("%s\n", b)
	// Output:
	// aa {"action":"put","path":["note"],"value":""}
	// aa {"action":"splice","path":["note",0],"value":"hello"}
	// aa {"action":"splice","path":["note",5],"value":" world"}
	// bb {"action":"put","path":["seen"],"value":true}
	// bb {"action":"splice","path":["note",0],"value":"J"}
	// bb {"action":"del","path":["note",1]}
	// {"note":"Jello world","seen":true}
}
