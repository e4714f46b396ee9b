package doctor_test

import (
	"fmt"

	"newswire/cdc/doctor"
)

// The worst comes first, with what to do about it.
func ExampleReport_String() {
	fmt.Print(doctor.Report{Findings: []doctor.Finding{
		{Check: "wal-level", Level: doctor.OK, Object: "wal_level", Message: "wal_level is logical"},
		{Check: "slot", Level: doctor.Fatal, Object: "newswire", Message: "the replication slot does not exist", Remedy: "run `newswire setup --apply`"},
	}})
	// Output:
	// fatal  slot                    newswire: the replication slot does not exist
	//                                remedy: run `newswire setup --apply`
	// ok     wal-level               wal_level: wal_level is logical
	// 1 fatal, 0 to look at, 1 in order
	// README.md has a page for each finding, under its name
}
