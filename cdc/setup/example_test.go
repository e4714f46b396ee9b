package setup_test

import (
	"fmt"

	"newswire/cdc/setup"
)

// A plan reads as a script: what need not run stands in it as a comment.
func ExamplePlan_String() {
	p := setup.Plan{Steps: []setup.Step{
		{Comment: `Role "newswire" can log in and replicate already.`},
		{
			Comment: "The server's bookmark.",
			SQL:     "SELECT pg_catalog.pg_create_logical_replication_slot('newswire', 'pgoutput')",
			Undo:    "SELECT pg_catalog.pg_drop_replication_slot('newswire')",
			Needed:  true,
		},
	}}
	fmt.Print(p)
	// Output:
	// -- Role "newswire" can log in and replicate already.
	//
	// -- The server's bookmark.
	// SELECT pg_catalog.pg_create_logical_replication_slot('newswire', 'pgoutput');
	// -- undo: SELECT pg_catalog.pg_drop_replication_slot('newswire');
}
