package journal
const envChildDir, envChildUnsynced = "A","B"
func powerCutChild(string, bool) int {return 0}
