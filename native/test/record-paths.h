#pragma once

#include <string>

/** LOOPBOX_RECORD, a real path; empty where nothing is recorded. */
const std::string& RecordedDirectory();

/** Whether an absolute path is the recorded directory, or below it. */
bool IsRecorded(const std::string& path);

/** A path as calls take it, relative to the recorded directory; empty for one elsewhere. */
std::string RecordedPath(int directory, const char* path);

std::string PathOfWorkingDirectory();
