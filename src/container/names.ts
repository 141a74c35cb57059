import { LoopboxError } from '../errors';

const containerName = /^[a-z0-9][a-z0-9._-]{0,62}$/;
const templateName = /^[a-z0-9][a-z0-9._-]{0,62}(:[A-Za-z0-9._-]{1,32})?$/;

export function isContainerName(name: string): boolean {
  return containerName.test(name);
}

export function isTemplateName(name: string): boolean {
  return templateName.test(name);
}

/** Throws ERR_LOOPBOX_USAGE for what can't be the name of a container. */
export function checkContainerName(name: string): void {
  if (isContainerName(name)) return;
  throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot use the name "${name}": it does not match ${containerName.source}`, {
    hint: 'use lower-case letters, digits, ".", "_" and "-", at most 63, beginning with a letter or digit',
  });
}

/** Throws ERR_LOOPBOX_USAGE for what can't be the name of a template, `NAME[:VERSION]`. */
export function checkTemplateName(name: string): void {
  if (isTemplateName(name)) return;
  throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot use the template name "${name}": it does not match ${templateName.source}`, {
    hint: 'NAME as for containers, VERSION of letters, digits, ".", "_" and "-", at most 32',
  });
}
